"""The training loop: one process, packed batches, progress, evaluation, resumable checkpoints."""

from __future__ import annotations

import csv
import hashlib
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from osa.model.embedder import EmbeddingModel
from osa.model.errors import ConfigError, OsaError
from osa.model.training.config import TrainConfig
from osa.model.training.corpus import Corpus, batch_rows
from osa.model.training.distillation import distillation_loss
from osa.model.training.evaluation import Agreement, agreement
from osa.model.training.optimization import build_optimizer, rate_share, set_rates
from osa.model.training.state import load_state, save_state

STATE = "state"
METRICS = "metrics.csv"
COLUMNS = ("step", "loss", "cosine_loss", "rate_share", "tokens", "held_out_cosine",
           "held_out_retrieval")  # fmt: skip


class MetricsWriter(Protocol):
    """What writes a row of ``metrics.csv``."""

    def writerow(self, row: Iterable[object], /) -> object:
        """Write one row."""


class TrainingError(OsaError):
    """The run cannot go on; its last saved state is intact."""

    code = "training"


class Interrupted(OsaError):
    """The run was asked to stop, and has saved where it is."""

    code = "interrupted"


class Trainer:
    """Distils teacher vectors into a student, update by update."""

    def __init__(
        self,
        config: TrainConfig,
        model: EmbeddingModel,
        corpus: Corpus,
        targets: np.ndarray,
        held_out: tuple[Corpus, np.ndarray] | None,
        rotation: Tensor,
        teacher_sha256: str,
        output: Path,
        progress: bool = True,
    ) -> None:
        """Prepare a run.

        Args:
            config: The run.
            model: The student.
            corpus: Texts to train on.
            targets: Their teacher vectors [n, E].
            held_out: Texts to evaluate on, and their teacher vectors.
            rotation: Applied to every teacher vector [E, E].
            teacher_sha256: Identity of the teacher's weights.
            output: Directory for state and metrics.
            progress: Show a progress bar.
        """
        self.config, self.model, self.corpus, self.targets = config, model, corpus, targets
        self.held_out, self.rotation, self.output = held_out, rotation, output
        self.progress = progress
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model.to(self.device)
        self.optimizer = build_optimizer(model, config.optimizer)
        self.identity = hashlib.sha256(
            f"{config.digest()} {corpus.sha256} {teacher_sha256}".encode()
        ).hexdigest()
        self.step = 0
        self._stop_signal = 0

    def resume(self) -> None:
        """Go on from the saved state.

        Raises:
            CheckpointError: No state, or of other settings, texts or another teacher.
        """
        self.step = load_state(self.output / STATE, self.model, self.optimizer, self.identity)

    def save(self) -> None:
        """Save the state to resume from."""
        save_state(self.output / STATE, self.model, self.optimizer, self.step, self.identity)

    def update(self) -> tuple[float, float, int]:
        """One update; returns loss, its cosine part and the number of tokens.

        Raises:
            TrainingError: The loss or its gradient is not finite.
        """
        settings = self.config.optimizer
        rows = batch_rows(self.step, settings.batch_size, len(self.corpus.texts), self.config.seed)
        assert self.model.tokenizer is not None  # build_student gave it one
        texts = [self.corpus.texts[row] for row in rows]
        tokenized = self.model.tokenizer.encode(texts, self.config.data.max_tokens)
        ids = [text.ids for text in tokenized]
        target = self._target(self.targets[rows])
        self.model.train()
        set_rates(self.optimizer, rate_share(self.step, settings))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            output = self.model.embed_ids(ids)
        widths = self.model.config.allowed_dimensions
        loss, cosine = distillation_loss(
            output.embeddings.float(), target, settings.similarity_weight, widths
        )
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"the loss of update {self.step} is {loss.item()}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(f"the gradient of update {self.step} is not finite")
        self.optimizer.step()
        self.step += 1
        return loss.item(), cosine.item(), sum(map(len, ids))

    def evaluate(self) -> Agreement:
        """Agreement with the teacher on the held-out texts.

        Raises:
            ConfigError: The run has no held-out texts.
        """
        if self.held_out is None:
            raise ConfigError("data.held_out names no file to evaluate on")
        corpus, vectors = self.held_out
        self.model.eval()
        return agreement(self.model.encode(corpus.texts), self._target(vectors).cpu())

    def run(self) -> None:
        """Train to the last update.

        Raises:
            TrainingError: The loss or its gradient is not finite.
            Interrupted: SIGINT or SIGTERM came; the state is saved.
        """
        report, steps = self.config.report, self.config.optimizer.steps
        self.output.mkdir(parents=True, exist_ok=True)
        with (
            self._signals(),
            _metrics_writer(self.output / METRICS, self.step) as writer,
            tqdm(total=steps, initial=self.step, desc="train", disable=not self.progress) as bar,
        ):
            tokens, since = 0, time.monotonic()
            while self.step < steps:
                loss, cosine, count = self.update()
                tokens += count
                bar.update()
                rate = tokens / (time.monotonic() - since)
                bar.set_postfix(loss=f"{loss:.4f}", tokens_s=f"{rate:.0f}", refresh=False)
                due = self.step % report.evaluate_every == 0 or self.step == steps
                scores = self.evaluate() if due and self.held_out is not None else None
                if scores is not None or self.step % report.log_every == 0:
                    share = rate_share(self.step - 1, self.config.optimizer)
                    row = [self.step, f"{loss:.5f}", f"{cosine:.5f}", f"{share:.5f}", tokens]
                    found = ("", "") if scores is None else (scores.cosine, scores.retrieval)
                    writer.writerow([*row, *found])
                if self.step % report.save_every == 0 or self.step == steps or self._stop_signal:
                    self.save()
                if self._stop_signal:
                    raise Interrupted(
                        f"stopped by signal {self._stop_signal} after update {self.step}; "
                        "run the same command with --resume to go on"
                    )

    def _target(self, vectors: np.ndarray) -> Tensor:
        rotated = torch.from_numpy(np.asarray(vectors, dtype=np.float32)) @ self.rotation
        return torch.nn.functional.normalize(rotated, dim=-1).to(self.device)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._stop_signal = number

        previous = {
            number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def _metrics_writer(path: Path, step: int) -> Iterator[MetricsWriter]:
    """A CSV writer that appends after ``step``, or starts anew; later rows are cut off."""
    kept: list[str] = []
    if step and path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines[1:] if line and int(line.split(",", 1)[0]) <= step]
    with path.open("w", encoding="utf-8", newline="", buffering=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        file.writelines(line + "\n" for line in kept)
        yield writer
