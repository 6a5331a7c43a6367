"""The training loop, for every objective, in one process or in several started by ``torchrun``."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from osa.model.common.progress import Progress, say
from osa.model.errors import OsaError, first_line
from osa.model.layers.chunks import chunk_blocks
from osa.model.processor import has_fast_bfloat16
from osa.model.training.config import TrainConfig
from osa.model.training.data.sampler import BatchSampler, shard, text_lengths
from osa.model.training.distributed import PeerError, Processes, divide, is_peer_loss
from osa.model.training.metric_log import MetricLog
from osa.model.training.network import Network, parallelize
from osa.model.training.objectives.base import Loss
from osa.model.training.objectives.shared_sequences import SharedSequences
from osa.model.training.request import STATE
from osa.model.training.resume import (
    Counters,
    collect_state,
    copy_weights,
    environment_differences,
    load_state,
    save_state,
)
from osa.model.training.setup import Setup
from osa.model.training.stopping import Interrupted, StopSignal
from osa.model.training.updates.grad_cache import batch_gradient
from osa.model.training.updates.optimizer import (
    AveragedWeights,
    build_optimizer,
    rate_share,
    set_rates,
)


class TrainingError(OsaError):
    """The run must stop; its last saved state is intact."""

    code = "training"


class Trainer:
    """Trains a model for an objective, update by update.

    Attributes:
        counters: Progress of the run.
        identity: Digest of settings, data and teacher: only an equal run may resume.
    """

    def __init__(
        self, config: TrainConfig, setup: Setup, output: Path, processes: Processes, progress: bool
    ) -> None:
        """Prepare a run.

        Args:
            config: Settings.
            setup: Model, objective and data.
            output: Directory of state and logs.
            processes: The processes of the run.
            progress: Show a progress bar.

        Raises:
            ConfigError: Sequences cannot be shared by so many processes, or by those of this model.
        """
        self.config, self.objective, self.store = config, setup.objective, setup.store
        self.output, self.processes = output, processes
        self.progress = progress and processes.is_main
        self._data, group = divide(processes, config.sequence_parallel)
        if group is not None:
            chunk_blocks(setup.model.encoder)  # refuses what needs more than sums
            self.objective.shared = SharedSequences(group)
        bf16 = has_fast_bfloat16(processes.device.type) if config.bf16 is None else config.bf16
        own = Network(setup.model, setup.objective.head, setup.objective, bf16)
        self.eval_network: Network | None = None
        if processes.is_main:
            self.eval_network = own.copy().to(processes.device)
        self.network = parallelize(own, config.parallel, processes)
        self.optimizer = build_optimizer(self.network, config.optimizer)
        ema = config.optimizer.ema
        self.average = AveragedWeights(self.network, ema) if ema else None
        data = config.data
        self.sampler = BatchSampler(
            len(setup.store),
            config.optimizer.batch_size,
            config.seed,
            text_lengths(setup.store) if data.bucket_batches > 1 else None,
            data.bucket_batches,
        )
        identity = f"{config.digest()} {setup.store.sha256} {setup.objective.identity}"
        self.identity = hashlib.sha256(identity.encode()).hexdigest()
        self.counters = Counters()
        self._stop = StopSignal()

    def resume(self) -> None:
        """Restore the saved state; report what makes the weights differ from those without a stop.

        Raises:
            CheckpointError: No state, or that of other settings, data or another teacher.
        """
        place = self.output / STATE
        self.counters = load_state(place, self.network, self.optimizer, self.average, self.identity)
        if self.processes.is_main and (differences := environment_differences(place)):
            say(f"weights will differ in their last bits: {'; '.join(differences)}")

    def save(self) -> None:
        """Save the state to resume from; called by every process."""
        tensors = collect_state(self.network, self.optimizer, self.average)
        if self.processes.is_main:
            save_state(self.output / STATE, tensors, self.counters, self.identity)

    def update(self) -> dict[str, float]:
        """One update, skipped if the loss or the gradient is not finite.

        Returns:
            Values for ``metrics.csv``, by column.

        Raises:
            TrainingError: Too many updates in a row had to be skipped.
        """
        settings, step, data = self.config.optimizer, self.counters.step, self._data
        rows = self.sampler.rows(step)
        examples = self.objective.examples(*shard(rows, data.rank, data.world_size), step)
        tokens = torch.tensor([float(sum(len(example.inputs) for example in examples))])
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        most = settings.chunk_tokens * self.config.sequence_parallel  # of all that share them
        loss = batch_gradient(self.network, self.objective, examples, rows, most, data)
        share = rate_share(step, settings)
        set_rates(self.optimizer, share)
        norm = _clip(self.network, settings.clip_norm)
        finite = bool(torch.isfinite(loss.total)) and bool(torch.isfinite(norm))
        if finite:
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.network)
        self.counters.step += 1
        self.counters.tokens += int(data.sum(tokens.to(data.device)).item())
        self._count_skipped(finite, loss, norm)
        return {
            "loss": float(loss.total),
            "gradient_norm": float(norm),
            "rate_share": share,
            **loss.parts,
        }

    def _count_skipped(self, finite: bool, loss: Loss, norm: Tensor) -> None:
        counters, limit = self.counters, self.config.optimizer.max_skipped
        counters.skipped_in_a_row = 0 if finite else counters.skipped_in_a_row + 1
        counters.skipped += not finite
        if counters.skipped_in_a_row >= limit:
            raise TrainingError(
                f"{limit} updates in a row up to update {counters.step} were not finite (loss "
                f"{float(loss.total)}, gradient norm {float(norm)}): lower "
                "optimizer.learning_rate, lengthen optimizer.warmup, or set bf16 = false"
            )

    def evaluate(self) -> dict[str, float]:
        """Scores on the held-out data, with the averaged weights if there are any.

        Called by every process; empty except in process 0, and without held-out data.
        """
        if not self.objective.scores or not self.config.data.held_out:
            return {}
        if (network := self.trained_network()) is None:
            return {}
        network.eval()
        scores = self.objective.evaluate(network.model, network.head)
        return {name: scores[name] for name in self.objective.scores}

    def trained_network(self) -> Network | None:
        """The trained network, with averaged weights if there are any; None except in process 0."""
        tensors = collect_state(self.network, self.optimizer, self.average)
        if self.eval_network is not None:
            copy_weights(self.eval_network, tensors)
        return self.eval_network

    def run(self) -> None:
        """Train to the last update.

        Raises:
            TrainingError: Too many updates in a row were not finite.
            Interrupted: SIGINT or SIGTERM was received; the state is saved.
            PeerError: Another process of the run ended.
        """
        if self.processes.is_main:
            self.output.mkdir(parents=True, exist_ok=True)
        try:
            with self._stop:
                self._run()
        except RuntimeError as error:
            if self.processes.world_size == 1 or not is_peer_loss(error):
                raise
            raise PeerError(
                f"process {self.processes.rank} lost another process at update "
                f"{self.counters.step} ({first_line(error)}); the last state saved is in "
                f"{self.output / STATE}: run the same command with --resume to go on"
            ) from error

    def _run(self) -> None:
        report, steps = self.config.report, self.config.optimizer.steps
        columns = ("loss", *self.objective.parts, "gradient_norm", "rate_share")
        log = MetricLog(
            self.output,
            (*columns, "tokens", "skipped", *self.objective.scores),
            self.counters.step,
            report.tensorboard,
            active=self.processes.is_main,
        )
        with (
            log,
            Progress("train", "updates", steps, self.counters.step, self.progress) as bar,
        ):
            before, since = self.counters.tokens, time.monotonic()
            while self.counters.step < steps:
                row = self.update()
                step = self.counters.step
                rate = (self.counters.tokens - before) / (time.monotonic() - since)
                bar.update(1, f"loss {row['loss']:.4f}, {rate:.0f} tokens/s")
                stop = self._agreed_stop()
                due = step % report.evaluate_every == 0 or step == steps
                scores = self.evaluate() if due and not stop else {}
                if scores or step % report.log_every == 0 or step == steps:
                    counts = {"tokens": self.counters.tokens, "skipped": self.counters.skipped}
                    log.write(step, {**row, **counts, **scores})
                if step % report.save_every == 0 or step == steps or stop:
                    self.save()
                if stop:
                    raise Interrupted(
                        f"stopped by signal {stop} after update {step}; "
                        "run the same command with --resume to go on"
                    )

    def _agreed_stop(self) -> int:
        """Largest signal received by any process (0: none), so that all stop at the same update."""
        if self.processes.world_size == 1:
            return self._stop.number
        found = torch.tensor([self._stop.number], device=self.processes.device)
        return int(self.processes.gather(found).max())


def _clip(network: nn.Module, largest: float) -> Tensor:
    """Clip the gradient to the norm ``largest``; returns its norm before, over all processes."""
    norm = nn.utils.clip_grad_norm_(network.parameters(), largest)
    full = getattr(norm, "full_tensor", None)  # of a sharded network
    whole: Tensor = norm if full is None else full()
    return whole
