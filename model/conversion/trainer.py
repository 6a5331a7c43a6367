"""The stages of a conversion: updates, their plan, and the state that they resume from."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from osa.model.common.progress import Progress, say
from osa.model.conversion.matching import (
    blocks_of,
    match_attention,
    trace,
    vector_gradients,
)
from osa.model.conversion.outputs import agreement_name
from osa.model.conversion.plan import STAGES, Plan, make_plan, shares_of
from osa.model.conversion.request import STATE, Request
from osa.model.conversion.student import mixer_of
from osa.model.conversion.texts.long_texts import long_gradients
from osa.model.conversion.texts.pieces import TrainingTexts
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import CheckpointError
from osa.model.processor import has_fast_bfloat16
from osa.model.training.distributed import Processes
from osa.model.training.resume import Counters, collect_state, load_state, save_state
from osa.model.training.stopping import Interrupted, StopSignal

PLAN = "plan.json"
TIMED = 4
"""Updates that are timed to plan a stage by its minutes; the first one is not."""
WARMUP = 15
FINAL_SHARE = 0.02
SAVE_EVERY_S = 60.0
RATES = (
    {"weights": 2e-2, "side": 3e-3, "projection": 1.5e-3},
    {"weights": 2.5e-3, "side": 2e-4, "projection": 2e-4, "rest": 5e-5},
    {"weights": 2.5e-3, "side": 2e-4, "projection": 2e-4, "rest": 5e-5, "positions": 2e-4},
)
"""Peak rates of the stages. Rates of 2e-4 and more for the rest undo what stage one has found."""
FEWER_LAYERS = {"weights": 5e-3, "side": 4e-4, "projection": 4e-4, "rest": 2e-4}
"""Of stage two where layers were left out, whose work the others have yet to learn."""
CLIP_NORM = 1.0


class Conversion:
    """Teaches a student.

    Attributes:
        student: What learns.
        counters: Progress of the stage at work.
        plan: Updates of the stages.
        last: What the last update missed a layer, or the agreement of its outputs.
    """

    def __init__(
        self,
        request: Request,
        teacher: EmbeddingModel,
        student: EmbeddingModel,
        texts: TrainingTexts,
        processes: Processes,
        without_osa: bool = False,
    ) -> None:
        """Prepare.

        Args:
            request: Of the command.
            teacher: A softmax encoder.
            student: Of ``make_student``.
            texts: To learn on.
            processes: Those of the run.
            without_osa: Keep the term of OSA at zero: a control.

        Raises:
            ConfigError: As of ``make_plan``.
        """
        self.request, self.teacher, self.texts = request, teacher.requires_grad_(False), texts
        self.student, self.processes = student, processes
        self.layers = request.layers or tuple(range(teacher.config.num_layers))
        self.whole = len(self.layers) == teacher.config.num_layers
        self.plan = make_plan(request, student.config, texts)
        self._shares = shares_of(student.config, texts)
        self.counters = Counters()
        self.last: list[float] = []
        self._without_osa, self._keeps_state = without_osa, True
        if without_osa:
            for block in blocks_of(student):
                completion = mixer_of(block).completion
                assert completion is not None
                completion.mixed.data.zero_()
        about = [request.digest(), teacher.checkpoint_sha256, texts.sha256, without_osa]
        about += [texts.long.sha256] if len(texts.long) else []
        self.identity = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        self._stop = StopSignal()
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self.optimizer = self._begin_stage()

    def run(self, keeps_state: bool = True) -> None:
        """Run what is left of the stages.

        Args:
            keeps_state: Whether the state is saved now and then, to resume from.

        Raises:
            Interrupted: By SIGINT or SIGTERM; the state is saved.
        """
        self._keeps_state = keeps_state
        if self.processes.is_main and keeps_state:
            self.request.work.mkdir(parents=True, exist_ok=True)
        with self._stop:
            while self.plan.stage < len(self.plan.steps):
                self._run_stage()
                self.plan.stage += 1
                self.counters = Counters()
                if self.plan.stage < len(self.plan.steps):
                    self.optimizer = self._begin_stage()
                self.save()

    def resume(self) -> None:
        """Go on from the saved state.

        Raises:
            CheckpointError: There is none, or it is of another conversion or of another number of
                updates.
        """
        place, asked = self.request.work / STATE, self.plan.asked
        try:
            self.plan = Plan(**json.loads((place / PLAN).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{place} holds no plan: {error}") from error
        if self.plan.asked != asked:
            raise CheckpointError(
                f"{self.request.work} was begun with {self.plan.asked}, got {asked}: give the "
                "first again, or begin anew without --resume"
            )
        self.optimizer = self._begin_stage()
        self.counters = load_state(place, self.student, self.optimizer, None, self.identity)

    def save(self) -> None:
        """Save the state to resume from; called by every process."""
        if not self._keeps_state:
            return
        tensors = collect_state(self.student, self.optimizer, None)
        if self.processes.is_main:
            plan = {PLAN: json.dumps(asdict(self.plan))}  # of this state: both or neither
            save_state(self.request.work / STATE, tensors, self.counters, self.identity, plan)

    def _run_stage(self) -> None:
        stage, counters = self.plan.stage, self.counters
        label = STAGES[stage]
        began = told = time.monotonic()
        steps = self.plan.steps[stage]
        if steps == 0:
            return
        enabled = not self.request.quiet and self.processes.is_main
        bar = Progress(label, "updates", steps, counters.step, enabled)
        with bar:
            while steps is None or counters.step < steps:
                self._update(steps)
                if counters.step == 1:
                    began = time.monotonic()
                if steps is None and counters.step > TIMED:
                    each = (time.monotonic() - began) / TIMED
                    wanted = 60.0 * self.request.minutes * self._shares[stage] / each
                    steps = self.plan.steps[stage] = self.processes.max(max(TIMED + 1, int(wanted)))
                    bar.expect(steps)
                bar.update(1, self._note())
                stop = self.processes.max(self._stop.number)
                if stop or (steps is not None and time.monotonic() - told > SAVE_EVERY_S):
                    self.save()
                    told = time.monotonic()
                if stop:
                    raise Interrupted(
                        f"stopped by signal {stop} after update {counters.step} of {label}; run "
                        "the same command with --resume to go on"
                    )
        if enabled:
            say(f"{label}: {counters.step} updates, {self._note()}")

    def _note(self) -> str:
        if self.plan.stage:
            return f"{agreement_name(self.student.config)} {self.last[0]:.4f}"
        return "explained " + " ".join(f"{1.0 - part:.2f}" for part in self.last)

    def _update(self, steps: int | None) -> None:
        """One update; skipped if a gradient is not finite."""
        processes, counters = self.processes, self.counters
        number = counters.step * processes.world_size + processes.rank
        share = _share(counters.step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.zero_grad(set_to_none=True)
        tokens = self._add_gradients(number)
        parameters = [part for group in self.optimizer.param_groups for part in group["params"]]
        if processes.world_size > 1:
            for parameter in parameters:
                assert parameter.grad is not None
                processes.sum(parameter.grad).div_(processes.world_size)
        norm = nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
        else:
            counters.skipped += 1
        counters.step += 1
        counters.tokens += tokens * processes.world_size

    def _add_gradients(self, number: int) -> int:
        """Of the batch of this number; returns its tokens. Every second one of the last is long."""
        request, device, stage = self.request, self.processes.device, self.plan.stage
        with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device.type)):
            if stage == 2 and self.counters.step % 2:
                long = self.texts.long.batch(number, request.batch_tokens, device)
                self.last = [long_gradients(self.student, self.teacher, long)]
                return long.texts.ids.numel()
            if stage == 2:  # goes on where stage two has ended
                number += (self.plan.steps[1] or 0) * self.processes.world_size
            batch = self.texts.batch(2 * number + min(stage, 1), request.batch_tokens, device)
            if stage == 0:
                found = trace(self.teacher, self.layers, batch)
                self.last = match_attention(self.student, found, batch, own=self.whole)
                return batch.ids.numel()
            self.last = [
                vector_gradients(
                    self.student, self.teacher, self.layers, batch, self.request.chunk_tokens
                )
            ]
            return batch.ids.numel()

    def _begin_stage(self) -> AdamW:
        """The optimizer of the stage at work: what it may change, at which rates.

        Where all stages are done it is that of the last.
        """
        stage = min(self.plan.stage, len(RATES) - 1)
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        rates = RATES[stage]
        if stage == 1 and not self.whole:
            rates = FEWER_LAYERS
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
        for name, parameter in self.student.named_parameters():
            kind = _kind(name)
            frozen = self._without_osa and name.endswith((".alpha", ".completion.mixed"))
            parameter.requires_grad_(kind in rates and not frozen)
            if parameter.requires_grad:
                groups[kind].append(parameter)
        if stage == 0:
            for block in blocks_of(self.student):
                projection = mixer_of(block).qkv
                for parameter in projection.parameters():
                    self._hooks.append(parameter.register_hook(_without_values))
        made = [{"params": parts, "peak": rates[kind]} for kind, parts in groups.items() if parts]
        return AdamW(made, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)


def _kind(name: str) -> str:
    """Of a parameter of a student: which rate it has; embeddings and heads have none."""
    if name.endswith(".mixer.alpha") or ".mixer.completion." in name:
        return "weights"
    if ".mixer.side." in name:
        return "side"
    if ".mixer.qkv." in name:
        return "projection"
    if name.startswith("encoder.positions."):
        return "positions"
    kept = ("encoder.embed.", "encoder.token_types.", "head.")
    return "kept" if name.startswith(kept) else "rest"


def _without_values(gradient: Tensor) -> Tensor:
    """The gradient of queries and keys; that of values, the last third, is zero."""
    gradient = gradient.clone()
    gradient[2 * (len(gradient) // 3) :] = 0.0
    return gradient


def _share(step: int, steps: int | None) -> float:
    """Share of the peak rates: they rise over ``WARMUP`` updates and fall to almost nothing."""
    progress = 0.0 if steps is None else step / steps
    fall = FINAL_SHARE + (1.0 - FINAL_SHARE) * 0.5 * (1.0 + math.cos(math.pi * progress))
    return min(1.0, (step + 1) / WARMUP) * fall
