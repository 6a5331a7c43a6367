"""What the conversion of a model with a head is worth: agreement of its scores with the teacher's.

Shapes: S sequences, E width of an output: labels, or token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.conversion.outputs import agreement_name, output_loss, variation
from osa.model.conversion.rank_correlation import read_pairs, spearman
from osa.model.conversion.report import (
    MOST_PASSAGES,
    Report,
    by_length,
    embed_ids,
    quick,
    speeds,
)
from osa.model.conversion.texts.pairs import Pair, parts_and_rests
from osa.model.conversion.texts.pieces import TrainingTexts
from osa.model.embedding_model import EmbeddingModel

MOST_COMPARED = 2000
"""Held-out pieces; weights of ids are as wide as the vocabulary."""
CANDIDATES, MOST_QUERIES = 10, 100
"""Passages that are ranked for a query, and queries."""
TEXTS_AT_ONCE = 256


def measure_head(
    teacher: EmbeddingModel, student: EmbeddingModel, texts: TrainingTexts, sts: Sequence[Path]
) -> Report:
    """Compare a student that has a head with its teacher, both as they are served.

    Args:
        teacher: The teacher.
        student: The student.
        texts: Those that it has learnt on.
        sts: Files of pairs; none for classifiers of several labels.
    """
    before, after = quick(teacher), quick(student)
    report = Report()
    pieces = [piece.tolist() for piece in texts.held_out_pieces[:MOST_COMPARED]]
    if len(pieces) > 1:
        wanted, found = embed_ids(before, pieces), embed_ids(after, pieces)
        report.scores = score_agreement(after, found, wanted)
        lengths = [len(piece) for piece in pieces]
        report.scores_by_length = by_length(agreements(after, found, wanted), lengths)
    if student.config.task == "reranker" and texts.held_out:
        report.retrieval = _ranks(before, after, texts)
    for file in sts:
        scores, left, right = read_pairs(file)
        report.sts[file.stem] = {
            name: round(100.0 * spearman(_similarities(model, left, right).numpy(), scores), 2)
            for name, model in (("teacher", before), ("student", after))
        }
    report.speed = speeds(teacher.config, student.config)
    return report


def score_agreement(
    model: EmbeddingModel, found: Float[Tensor, "S E"], wanted: Float[Tensor, "S E"]
) -> dict[str, float]:
    """Agreement of all outputs, and where they are logits their order and the best label.

    Args:
        model: The student.
        found: Its outputs.
        wanted: The teacher's.
    """
    config = model.config
    scores = {agreement_name(config): float(output_loss(config, found, wanted)[1])}
    if agreement_name(config) == "explained":
        columns = zip(found.T.numpy(), wanted.T.numpy(), strict=True)
        ranks = [spearman(one, other) for one, other in columns]
        scores["rank_correlation"] = sum(ranks) / len(ranks)
        if found.shape[1] > 1:
            same = found.argmax(-1) == wanted.argmax(-1)
            scores["same_label"] = float(same.float().mean())
    return {name: round(value, 4) for name, value in scores.items()}


def agreements(
    model: EmbeddingModel, found: Float[Tensor, "S E"], wanted: Float[Tensor, "S E"]
) -> Float[Tensor, " S"]:
    """Agreement of each sequence; of logits what is not explained is part of the variance of all.

    Args:
        model: The student.
        found: Its outputs.
        wanted: The teacher's.
    """
    if agreement_name(model.config) == "explained":
        return 1.0 - (found - wanted).square().sum(-1) / variation(wanted) * len(wanted)
    return F.cosine_similarity(found, wanted)


def _ranks(before: EmbeddingModel, after: EmbeddingModel, texts: TrainingTexts) -> dict[str, float]:
    """How often a sentence's own text comes before nine others."""
    parts, rests = parts_and_rests(texts.held_out, MOST_PASSAGES)
    parts = parts[:MOST_QUERIES]
    if len(rests) < CANDIDATES:
        return {}
    pairs = [
        (part, rests[(place + other) % len(rests)])
        for place, part in enumerate(parts)
        for other in range(CANDIDATES)
    ]
    found = {"passages": float(len(parts)), "candidates": float(CANDIDATES)}
    for name, model in (("teacher", before), ("student", after)):
        scores = _pair_scores(model, pairs).view(-1, CANDIDATES)
        first = (scores[:, :1] > scores[:, 1:]).all(-1)
        found[name] = round(100.0 * float(first.float().mean()), 2)
    return found


def _similarities(
    model: EmbeddingModel, left: Sequence[str], right: Sequence[str]
) -> Float[Tensor, " S"]:
    """A reranker's scores of pairs; of sparse weights dot products."""
    if model.config.task == "reranker":
        return _pair_scores(model, list(zip(left, right, strict=True)))
    found = []
    for start in range(0, len(left), TEXTS_AT_ONCE):
        stop = start + TEXTS_AT_ONCE
        one, other = (model.encode(list(texts[start:stop])) for texts in (left, right))
        found.append((one * other).sum(-1))
    return torch.cat(found)


def _pair_scores(model: EmbeddingModel, pairs: Sequence[Pair]) -> Float[Tensor, " S"]:
    """The only logit of each pair."""
    config, tokenizer = model.config, model.tokenizer
    assert tokenizer is not None  # of a model that learnt on texts
    items = tokenizer.encode_pairs(pairs, config.max_seq_len, type_stride=config.type_stride)
    return embed_ids(model, [item.ids for item in items])[:, 0]
