"""A conversion: from a directory of transformers to a checkpoint with its report."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

from osa.model.calibration import CALIBRATION, LEAST_TEXTS, Calibration
from osa.model.checkpoint import Checkpoint, load_weights
from osa.model.common.progress import say
from osa.model.conversion.head_report import measure_head
from osa.model.conversion.matryoshka import check_turnable, turn_vectors
from osa.model.conversion.model_card import far, model_card
from osa.model.conversion.report import Report, embed_ids, measure, measure_widths, quick, to_json
from osa.model.conversion.request import STATE, Request
from osa.model.conversion.student import make_student
from osa.model.conversion.texts.pairs import pairing_of
from osa.model.conversion.texts.pieces import TrainingTexts, read_texts
from osa.model.conversion.trainer import Conversion
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import CheckpointError, ConfigError
from osa.model.hub.reader import read_model
from osa.model.layers.initialization import shapes_alone
from osa.model.stored_weights import from_stored, to_stored
from osa.model.training.distributed import Processes, process_group

RECORD, CARD = "conversion.json", "README.md"
MEASURED_ON = 10_000
"""Pieces of texts whose vectors' principal axes and ranges are taken."""


def convert(request: Request) -> int:
    """Convert a model as requested; returns the exit code.

    Raises:
        OsaError: The model cannot be converted, or the run is interrupted.
    """
    with process_group() as processes:
        teacher = load_teacher(request)
        _check(request, teacher)
        layers = request.layers or tuple(range(teacher.config.num_layers))
        torch.manual_seed(request.seed)
        longest = max(request.max_length, teacher.config.max_seq_len)
        student = make_student(teacher, layers, longest)
        with processes.main_first():
            texts = _texts(request, teacher, processes)
        for model in (teacher, student):
            model.to(processes.device)
        began = time.monotonic()
        conversion = Conversion(request, teacher, student, texts, processes)
        if request.resume:
            conversion.resume()
        else:
            shutil.rmtree(request.work / STATE, ignore_errors=True)
        conversion.run()
        minutes = (time.monotonic() - began) / 60.0
        if processes.is_main:
            _finish(request, teacher, conversion, texts, minutes)
        processes.barrier()
    return 0


def load_teacher(request: Request) -> EmbeddingModel:
    """The teacher with all positions that its transformer has.

    Raises:
        CheckpointError: Naming the file, field or tensor at fault.
    """
    checkpoint: Checkpoint = read_model(request.model, whole_length=True)
    with shapes_alone():
        teacher = EmbeddingModel(checkpoint.config, checkpoint.tokenizer)
    load_weights(teacher, checkpoint.weights, request.model)
    teacher.checkpoint_sha256 = checkpoint.sha256
    teacher.prompts = checkpoint.prompts
    teacher.default_prompt_name = checkpoint.default_prompt_name
    return teacher.eval()


def _check(request: Request, teacher: EmbeddingModel) -> None:
    """Refuse what cannot be done with a model of this task."""
    task = teacher.config.task
    if request.matryoshka and teacher.config.head is not None:
        raise ConfigError(f"--matryoshka turns vectors, this is a model of {task}")
    if request.matryoshka:
        check_turnable(teacher, request.matryoshka)
    if request.sts and task == "classifier":
        raise ConfigError(
            "--sts takes models that give two texts a similarity, this is a classifier"
        )


def _texts(request: Request, teacher: EmbeddingModel, processes: Processes) -> TrainingTexts:
    if teacher.tokenizer is None:
        raise CheckpointError(f"{request.model} has no tokenizer")
    longest = min(request.max_tokens, teacher.config.max_seq_len)
    if longest < request.max_tokens and request.max_tokens != Request.max_tokens:
        raise ConfigError(
            f"--max-tokens must be at most the {longest} that the model reads, got "
            f"{request.max_tokens}"
        )
    shown = processes.is_main and not request.quiet
    pairing = pairing_of(request, teacher.config)
    texts = [] if request.pair_column else read_texts(request)
    reads = request.max_length if teacher.config.head is None else 0
    return TrainingTexts(texts, teacher.tokenizer, longest, request.seed, shown, reads, pairing)


def _finish(
    request: Request,
    teacher: EmbeddingModel,
    conversion: Conversion,
    texts: TrainingTexts,
    minutes: float,
) -> None:
    """Measure, and write the checkpoint."""
    pieces: list[list[int]] = [piece.tolist() for piece in texts.held_out_pieces]

    def measured(student: EmbeddingModel) -> Report:
        if student.config.head is not None:
            return measure_head(teacher, student, texts, request.sts)
        return measure(teacher, student, pieces, texts.held_out, request.sts, texts.long)

    say("comparing the student with its teacher: outputs, retrieval, scores, speed by length")
    _as_stored(conversion.student, request)
    report = measured(conversion.student)
    controls = _controls(request, teacher, texts, measured, conversion) if request.controls else {}
    student = conversion.student.cpu().requires_grad_(False).eval()
    extra: dict[str, bytes] = {}
    if student.config.head is None:
        student, extra = _vectors(request, student, texts, pieces, report)
    facts: dict[str, object] = {
        "teacher": {"name": request.name, "sha256": teacher.checkpoint_sha256},
        "layers": list(conversion.layers),
        "steps": conversion.plan.steps,
        "minutes": round(minutes, 1),
        "pieces": len(texts),
        "texts_sha256": texts.sha256,
        "max_tokens": request.max_tokens,
        "batch_tokens": request.batch_tokens,
        "matryoshka": list(request.matryoshka),
        "seed": request.seed,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("osa-encoder", "torch")},
    }
    record = to_json(facts, report, controls)
    card = model_card(request.name, student.config, facts, report, controls)
    extra |= {RECORD: record.encode(), CARD: card.encode()}
    student.save_pretrained(request.output, getattr(torch, request.dtype), extra)
    EmbeddingModel.from_pretrained(request.output)  # the state is deleted only if this loads
    shutil.rmtree(request.work, ignore_errors=True)
    print(card)
    if (warning := far(report)) is not None:
        say(f"warning: {warning}")
    print(f"wrote {request.output}")


def _vectors(
    request: Request,
    student: EmbeddingModel,
    texts: TrainingTexts,
    pieces: list[list[int]],
    report: Report,
) -> tuple[EmbeddingModel, dict[str, bytes]]:
    """The student, its vectors turned if asked for, and the file of their ranges.

    Args:
        request: Of the command.
        student: The student.
        texts: Those that it has learnt on.
        pieces: Held-out pieces of texts, ids.
        report: To which the turned vectors' figures are added.
    """
    say("measuring vectors of texts that were learnt")
    vectors = embed_ids(quick(student), texts.sample(MEASURED_ON)).numpy()
    if request.matryoshka:
        student, vectors = turn_vectors(student, vectors, request.matryoshka)
        report.widths = measure_widths(student, pieces, request.sts, request.matryoshka)
    if len(vectors) < LEAST_TEXTS:
        say(
            f"int8 and uint8 vectors cannot be asked for yet: {len(vectors)} pieces of texts are "
            f"too few for their ranges, at least {LEAST_TEXTS} are needed (osa calibrate)"
        )
        return student, {}
    ranges = Calibration.measure(vectors, student.config.allowed_dimensions)
    return student, {CALIBRATION: ranges.to_json().encode()}


def _as_stored(student: EmbeddingModel, request: Request) -> None:
    """Give the student the weights that its file will give back."""
    stored = to_stored(student.state_dict(), getattr(torch, request.dtype))
    student.load_state_dict(from_stored(stored, request.output))


def _controls(
    request: Request,
    teacher: EmbeddingModel,
    texts: TrainingTexts,
    measured: Callable[[EmbeddingModel], Report],
    conversion: Conversion,
) -> dict[str, Report]:
    """The same without OSA, and without stage one; as many updates, of the same texts."""
    first, second, third = (steps or 0 for steps in conversion.plan.steps)
    processes = Processes(0, 1, conversion.processes.device)
    found = {}
    for name, steps, without in (
        ("without OSA", (first, second, third), True),
        ("without stage one", (0, second, third), False),
    ):
        say(f"control: {name}")
        torch.manual_seed(request.seed)
        asked = dataclasses.replace(request, steps=steps, output=request.output / name)
        longest = conversion.student.config.max_seq_len
        student = make_student(teacher, conversion.layers, longest).to(processes.device)
        control = Conversion(asked, teacher, student, texts, processes, without_osa=without)
        control.run(keeps_state=False)
        found[name] = measured(control.student)
    return found
