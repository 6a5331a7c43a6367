"""A training run: from a configuration to a checkpoint directory."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors

from osa.model.common.progress import say
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.training.config import TrainConfig
from osa.model.training.distributed import Processes, process_group
from osa.model.training.metric_log import CURVES, plot_curves
from osa.model.training.request import STATE, work_directory
from osa.model.training.setup import Setup, prepare
from osa.model.training.trainer import Trainer

HEAD, RECORD = "head.safetensors", "training.json"


def train(config: TrainConfig, options: argparse.Namespace) -> int:
    """Train by a configuration of ``read_request``; returns the exit code.

    Raises:
        OsaError: Training fails or is interrupted.
    """
    work = work_directory(options.output)
    with process_group() as processes:
        groups, size = processes.world_size // config.sequence_parallel, config.optimizer.batch_size
        if groups > size:
            raise ConfigError(
                f"optimizer.batch_size ({size}) must be at least the number of processes ({groups})"
                + (" that have texts of their own" if config.sequence_parallel > 1 else "")
            )
        quiet = options.quiet or not processes.is_main
        if processes.is_main and not options.resume:
            shutil.rmtree(work / STATE, ignore_errors=True)  # only --force leaves one there
        with processes.main_first():  # process 0 fills the caches, the others read them
            prepared = prepare(config, progress=not quiet)
        if processes.is_main:
            for note in prepared.objective.notes:
                say(note)
        trainer = Trainer(config, prepared, work, processes, progress=not quiet)
        if options.resume:
            trainer.resume()
        trainer.run()
        scores = trainer.evaluate()
        network = trainer.trained_network()
        if network is not None:
            record = _record(config, prepared, trainer, processes, scores)
            if scores:
                print("held out: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
            if trainer.counters.skipped:
                print(f"{trainer.counters.skipped} updates were not finite and skipped")
            rest = prepared.objective.finish(network.model, network.head)
            _write(network.model, rest, options, record, work)
            shutil.rmtree(work / STATE)
            print(f"wrote {options.output}")
        processes.barrier()
    return 0


def _write(
    model: EmbeddingModel,
    head: torch.nn.Module,
    options: argparse.Namespace,
    record: dict[str, Any],
    work: Path,
) -> None:
    extra = {RECORD: (json.dumps(record, indent=2) + "\n").encode()}
    weights = {name: tensor.cpu().contiguous() for name, tensor in head.state_dict().items()}
    if weights:
        extra[HEAD] = save_tensors(weights)
    if plot_curves(work) is not None:
        print(f"curves are in {work / CURVES}")
    model.cpu().save_pretrained(options.output, getattr(torch, options.dtype), extra)
    EmbeddingModel.from_pretrained(options.output)  # the state is deleted only if this loads


def _record(
    config: TrainConfig,
    setup: Setup,
    trainer: Trainer,
    processes: Processes,
    scores: dict[str, float],
) -> dict[str, Any]:
    """Content of the checkpoint's ``training.json``."""
    return {
        "config": config.model_dump(mode="json", exclude_none=True),
        "data": {"examples": len(setup.store), "sha256": setup.store.sha256},
        **setup.objective.record(),
        "updates": trainer.counters.step,
        "tokens": trainer.counters.tokens,
        "skipped": trainer.counters.skipped,
        "held_out": scores,
        "versions": {name: version(name) for name in ("osa-encoder", "torch", "tokenizers")},
        "machine": {
            "processor": platform.machine(),
            "device": processes.device.type,
            "processes": processes.world_size,
            "threads": torch.get_num_threads(),
        },
    }
