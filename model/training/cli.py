"""``osa train``: from a TOML file to a checkpoint directory."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from osa.model.checkpoint import MANIFEST, check_replaceable
from osa.model.embedder import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.training.config import TrainConfig, load_config
from osa.model.training.corpus import Corpus
from osa.model.training.distillation import principal_rotation
from osa.model.training.loop import STATE, Trainer
from osa.model.training.student import build_student
from osa.model.training.teacher import locate_teacher, teacher_digest, teacher_vectors

RECIPES = Path(__file__).parent / "recipes"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``osa train``."""
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="TOML file, or the name of a packaged recipe: "
        + ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml"))),
    )
    parser.add_argument("--output", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field, e.g. --set optimizer.steps=400 (may be repeated)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the saved state")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float16", help="of the file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit code.

    Raises:
        OsaError: Naming what was wrong.
    """
    recipe = RECIPES / f"{options.config}.toml"
    config = load_config(recipe if recipe.is_file() else options.config, options.set)
    work = options.output.with_name(options.output.name + ".run")
    check_replaceable(options.output, MANIFEST)
    if not options.resume and (work / STATE).is_dir():
        raise ConfigError(f"{work} holds a state: pass --resume, or remove it to start anew")
    trainer, record = prepare(config, work, progress=not options.quiet)
    if options.resume:
        trainer.resume()
    trainer.run()
    if trainer.held_out is not None:
        scores = trainer.evaluate()
        record["held_out"] = {"cosine": scores.cosine, "retrieval": scores.retrieval}
        print(f"held-out cosine {scores.cosine:.4f}, retrieval {scores.retrieval:.4f}")
    extra = {"training.json": (json.dumps(record, indent=2) + "\n").encode()}
    trainer.model.cpu().save_pretrained(options.output, DTYPES[options.dtype], extra)
    EmbeddingModel.from_pretrained(options.output)  # the state goes only when this loads
    shutil.rmtree(work / STATE)
    print(f"wrote {options.output}")
    return 0


def prepare(
    config: TrainConfig, work: Path, progress: bool = True
) -> tuple[Trainer, dict[str, Any]]:
    """Build the student, read the corpus, run the teacher where it has not been run.

    Returns:
        The trainer, and a record of what it trains on for the checkpoint.

    Raises:
        OsaError: Naming what was wrong.
    """
    data = config.data
    teacher = locate_teacher(config.teacher.directory)
    digest = teacher_digest(teacher)
    model = build_student(config, teacher)
    if data.max_tokens > model.config.max_seq_len:
        raise ConfigError(
            f"data.max_tokens ({data.max_tokens}) must not exceed model.max_seq_len "
            f"({model.config.max_seq_len})"
        )
    corpus = Corpus.read(data.files, data.limit)
    held_out = Corpus.read(data.held_out) if data.held_out else None

    def vectors_of(texts: Corpus) -> Any:
        return teacher_vectors(teacher, texts, config.teacher.cache, data.max_tokens, progress)

    targets = vectors_of(corpus)
    rotation = torch.eye(targets.shape[1])
    if config.teacher.rotate:
        rotation = principal_rotation(targets)
    evaluated = None if held_out is None else (held_out, vectors_of(held_out))
    trainer = Trainer(config, model, corpus, targets, evaluated, rotation, digest, work, progress)
    record = {
        "config": config.model_dump(mode="json"),
        "corpus": {"texts": len(corpus.texts), "sha256": corpus.sha256},
        "teacher": {"sha256": digest},
        "versions": {name: version(name) for name in ("osa-encoder", "torch", "tokenizers")},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
    }
    return trainer, record
