"""What a conversion is worth: agreement with the teacher, retrieval, STS, and speed by length.

Shapes: S texts, E embedding width.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.conversion.rank_correlation import read_pairs, spearman
from osa.model.conversion.texts.long_texts import LongTexts, long_targets, long_vectors
from osa.model.conversion.texts.pairs import parts_and_rests
from osa.model.embedding_model import EmbeddingModel
from osa.model.functional.varlen import batches_by_length
from osa.model.inference.precision import use_dtype
from osa.model.processor import has_fast_bfloat16
from osa.model.training.evaluation import retrieval_scores

BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Ends of the buckets of lengths [tokens]."""
MOST_PASSAGES = 800
"""Of the retrieval."""
SPEED_LENGTHS = (32, 128, 512, 2048, 8192)
SPEED_TOKENS, SPEED_ROUNDS = 8192, 3
BATCH_TOKENS = 8192
MOST_LONG = 100
"""Long texts that are compared."""


@dataclass
class Report:
    """Figures of a conversion.

    Attributes:
        cosine: Mean with the teacher's vectors, over held-out pieces; None where there are none.
        cosine_by_length: The same by tokens: ``first-last``.
        retrieval: Recall at 1 of passages by one of their sentences, of teacher and student.
        sts: Spearman correlation times 100, of teacher and student, by file.
        speed: CPU time of a token of the teacher over the student's, by tokens of a text.
        long: The same of texts beyond the teacher's length, by tokens: ``texts``, the cosine of the
            ``whole`` with the mean of the teacher's vectors of its segments, and of the ``parts``
            within it with these.
        scores: Of a model with a head, instead of cosines of vectors: share of the variance of the
            teacher's logits that is ``explained``, mean ``rank_correlation`` of each label's, share
            of texts with the ``same_label`` first; or ``cosine`` of sparse weights.
        scores_by_length: The first of these by tokens.
        widths: Of turned vectors, by leading numbers: mean share of the squared length, and the
            mean of the STS scores, where there are files.
    """

    cosine: float | None = None
    cosine_by_length: dict[str, float] = field(default_factory=dict)
    retrieval: dict[str, float] = field(default_factory=dict)
    sts: dict[str, dict[str, float]] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)
    long: dict[str, dict[str, float]] = field(default_factory=dict)
    widths: dict[str, dict[str, float]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    scores_by_length: dict[str, float] = field(default_factory=dict)


def quick(model: EmbeddingModel) -> EmbeddingModel:
    """A copy as it is served: in bfloat16 where that is fast."""
    device = next(model.parameters()).device.type
    made = copy.deepcopy(model).eval()
    return use_dtype(made, "bfloat16" if has_fast_bfloat16(device) else "float32")


@torch.no_grad()
def embed(model: EmbeddingModel, texts: Sequence[str]) -> Float[Tensor, "S E"]:
    """Unit vectors of texts."""
    return model.encode(list(texts), batch_tokens=BATCH_TOKENS)


def by_length(agreement: Float[Tensor, " S"], lengths: Sequence[int]) -> dict[str, float]:
    """Mean agreement by bucket of lengths, ``first-last``; empty buckets are left out."""
    sizes = torch.tensor(lengths)
    found, start = {}, 1
    for stop in BUCKETS:
        chosen = (sizes >= start) & (sizes <= stop)
        if bool(chosen.any()):
            found[f"{start}-{stop}"] = round(float(agreement[chosen].mean()), 4)
        start = stop + 1
    return found


def recall(model: EmbeddingModel, parts: Sequence[str], rests: Sequence[str]) -> float:
    """Share of the parts, times 100, that find their own rest before all others."""
    scores = retrieval_scores(embed(model, parts), embed(model, rests))
    return round(100.0 * scores["recall_at_1"], 2)


def sts_scores(model: EmbeddingModel, file: Path, widths: Sequence[int]) -> list[float]:
    """Spearman correlation, times 100, of cosines and the scores of a file of pairs.

    Args:
        model: The model.
        file: The pairs.
        widths: How many leading numbers of the vectors are compared, each for a result.

    Raises:
        ConfigError: See ``read_pairs``.
    """
    scores, left, right = read_pairs(file)
    first, second = embed(model, [*left, *right]).split(len(left))
    return [
        round(
            100.0
            * spearman(F.cosine_similarity(first[:, :width], second[:, :width]).numpy(), scores),
            2,
        )
        for width in widths
    ]


def measure_widths(
    model: EmbeddingModel,
    pieces: Sequence[Sequence[int]],
    sts: Sequence[Path],
    widths: Sequence[int],
) -> dict[str, dict[str, float]]:
    """What the leading numbers of turned vectors are worth, by their number.

    Args:
        model: Of ``turn_vectors``.
        pieces: Held-out pieces of texts, ids.
        sts: Files of pairs.
        widths: Numbers of leading numbers.
    """
    served = quick(model)
    found: dict[str, dict[str, float]] = {str(width): {} for width in widths}
    if pieces:
        squares = embed_ids(served, pieces).square()
        for width in widths:
            share = squares[:, :width].sum(-1) / squares.sum(-1)
            found[str(width)]["share"] = round(float(share.mean()), 4)
    if sts:
        scores = torch.tensor([sts_scores(served, file, widths) for file in sts])
        for width, mean in zip(widths, scores.mean(0).tolist(), strict=True):
            found[str(width)]["sts"] = round(mean, 2)
    return found


def cpu_time(model: EmbeddingModel, length: int) -> float:
    """CPU time of a token in texts of so many tokens [s]; the least of some rounds."""
    vocabulary = model.config.vocab_size or 1
    count = max(1, SPEED_TOKENS // length)
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, vocabulary, length).tolist() for _ in range(count)]
    model.embed_ids(rows[:1])
    found = []
    for _ in range(SPEED_ROUNDS):
        began = time.process_time()
        model.embed_ids(rows)
        found.append((time.process_time() - began) / (count * length))
    return min(found)


def measure(
    teacher: EmbeddingModel,
    student: EmbeddingModel,
    pieces: Sequence[Sequence[int]],
    texts: Sequence[str],
    sts: Sequence[Path],
    long: LongTexts | None = None,
) -> Report:
    """Compare a student with its teacher, both as they are served.

    Args:
        teacher: The teacher.
        student: The student.
        pieces: Held-out pieces of texts, ids.
        texts: Held-out texts.
        sts: Files of pairs.
        long: Texts beyond the teacher's length.
    """
    before, after = quick(teacher), quick(student)
    report = Report()
    if pieces:
        lengths = [len(piece) for piece in pieces]
        wanted, found = embed_ids(before, pieces), embed_ids(after, pieces)
        cosines = F.cosine_similarity(wanted, found)
        report.cosine = round(float(cosines.mean()), 4)
        report.cosine_by_length = by_length(cosines, lengths)
    parts, rests = parts_and_rests(texts, MOST_PASSAGES)
    if parts:
        report.retrieval = {
            "passages": float(len(parts)),
            "teacher": recall(before, parts, rests),
            "student": recall(after, parts, rests),
        }
    for file in sts:
        width = [student.config.vector_size]
        (first,), (second,) = (sts_scores(model, file, width) for model in (before, after))
        report.sts[file.stem] = {"teacher": first, "student": second}
    if long is not None and student.config.pooling == "mean":
        report.long = measure_long(before, after, long)
    report.speed = speeds(teacher.config, student.config)
    return report


@torch.no_grad()
def measure_long(
    teacher: EmbeddingModel, student: EmbeddingModel, long: LongTexts
) -> dict[str, dict[str, float]]:
    """Agreement on held-out long texts, by tokens; buckets without a text are left out."""
    found: dict[int, list[tuple[float, float]]] = {}
    for text in long.held_out[:MOST_LONG]:
        batch = long.join([text], torch.device("cpu"))
        parts, whole = long_vectors(student, batch)
        wanted_parts, wanted = long_targets(teacher, batch)
        stop = 1 << (batch.texts.ids.numel() - 1).bit_length()
        values = (parts * wanted_parts).sum(-1).mean(), (whole * wanted).sum()
        found.setdefault(stop, []).append((float(values[0]), float(values[1])))
    return {
        f"{stop // 2 + 1}-{stop}": {
            "texts": float(len(values)),
            "parts": round(sum(value[0] for value in values) / len(values), 4),
            "whole": round(sum(value[1] for value in values) / len(values), 4),
        }
        for stop, values in sorted(found.items())
    }


def speeds(teacher: EncoderConfig, student: EncoderConfig) -> dict[str, float]:
    """CPU time of a token of a softmax encoder over that of its student, by tokens of a text.

    Of encoders with random weights, which may be longer than the teacher's own positions.
    """
    longest = max(SPEED_LENGTHS)
    sized = (
        dataclasses.replace(config, max_seq_len=max(longest, config.max_seq_len))
        for config in (teacher, student)
    )
    before, after = (quick(EmbeddingModel(config)) for config in sized)
    return {
        str(length): round(cpu_time(before, length) / cpu_time(after, length), 2)
        for length in SPEED_LENGTHS
    }


@torch.no_grad()
def embed_ids(model: EmbeddingModel, pieces: Sequence[Sequence[int]]) -> Float[Tensor, "S E"]:
    """Unit vectors of sequences of ids."""
    vectors = torch.empty(len(pieces), model.config.output_size)
    for rows in batches_by_length([len(piece) for piece in pieces], BATCH_TOKENS):
        found = model.embed_ids([list(pieces[row]) for row in rows]).embeddings
        vectors[rows] = found.float().cpu()
    return vectors


def to_json(facts: dict[str, object], report: Report, controls: dict[str, Report]) -> str:
    """``conversion.json``: how it was made, and what it is worth."""
    rest = {name: asdict(control) for name, control in controls.items()}
    return json.dumps({**facts, **asdict(report), "controls": rest}, indent=2) + "\n"
