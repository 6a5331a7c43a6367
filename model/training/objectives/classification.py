"""Classification of texts, pairs of texts or feature sequences: a linear head on the pooled state.

A pair is one sequence of both texts. With ``softmax`` the loss is the cross-entropy over the
labels. With ``binary`` there is one logit z a pair, the loss is the cross-entropy of sigmoid(z) and
the pair's relevance in [0, 1], and the result is a reranker.

Shapes: S sequences, K logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from osa.model.config import EncoderConfig, HeadConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError, InputError
from osa.model.functional.varlen import batches_by_length
from osa.model.layers.heads import ClassifierHead
from osa.model.layers.pooling import pool
from osa.model.training.data.batch import Example, PackedBatch, pack
from osa.model.training.data.store import ExampleStore
from osa.model.training.evaluation import mean_reciprocal_rank, rankings
from osa.model.training.objectives.base import (
    EVALUATION_TOKENS,
    ObjectiveInputs,
    StartHead,
    TokenObjective,
    to_sequences,
)
from osa.model.training.objectives.registry import ClassifySection

RELEVANCE = "relevance"
"""Label of a new reranker."""
RELEVANT = 0.5
"""Relevance from which a pair counts as relevant in the scores."""


class Classification(TokenObjective):
    """Objective ``classify``.

    Attributes:
        classes: Labels of the training data, sorted; none of a reranker.
        head_config: Of the head; its labels are in the order of the logits.
    """

    section: ClassifySection
    takes_head = True

    def __init__(self, section: ClassifySection, inputs: ObjectiveInputs) -> None:
        """Find the classes and create the head, or go on with the checkpoint's; see ``Objective``.

        Raises:
            ConfigError: Labels that teach nothing, a held-out label that training data lack, or
                pairs that the model cannot take.
        """
        super().__init__(section, inputs)
        config, held_out = inputs.model.config, inputs.held_out
        self.tokenizer = inputs.model.tokenizer
        self.type_stride = self._check_pairs(config) if section.input == "pair" else 0
        self.binary = section.loss == "binary"
        self.classes = _relevances(inputs.store) if self.binary else _classes(inputs.store)
        if held_out is not None and not self.binary:
            unknown = sorted(set(held_out.column("label")) - set(self.classes), key=str)
            if unknown:
                raise ConfigError(f"held-out label {unknown[0]!r} is not in the training data")
        self.label_rows = _rows_of(inputs.start_head, self.classes, self.binary)
        if inputs.start_head is not None and self.label_rows is not None:
            score = _score(self.binary)
            self.head_config = replace(inputs.start_head.config, score=score)
            self.head = inputs.start_head.module
        else:
            if inputs.start_head is not None:
                self.notes.append(
                    f"the {inputs.start_head.config.kind} head of the model to start from, with "
                    f"the labels {list(inputs.start_head.config.labels)}, is replaced by a new one"
                )
            self.label_rows = {label: row for row, label in enumerate(self.classes)}
            self.head_config = _new_head(self.classes, self.binary)
            self.head = ClassifierHead(config, self.head_config)
            nn.init.zeros_(self.head.out.weight)
            nn.init.zeros_(self.head.out.bias)
        self.scores: tuple[str, ...] = ("held_out_loss", "accuracy")
        self.groups: list[list[int]] = []
        if held_out is not None and self.binary:
            relevant = torch.tensor(list(held_out.column("label"))) >= RELEVANT
            self.groups = rankings(list(held_out.column("text")), relevant)
            self.scores += ("mrr",) if self.groups else ()

    def _check_pairs(self, config: EncoderConfig) -> int:
        """What a step of the token type adds to an id; see ``TextTokenizer.encode_pairs``."""
        assert self.tokenizer is not None  # a model of texts
        if config.token_types == 1:
            raise ConfigError("model.token_types must be 0, or at least 2 for pairs, got 1")
        try:
            self.tokenizer.encode_pairs([("a", "a")], self.max_tokens)
        except InputError as error:
            raise ConfigError(f"data.max_tokens is too small for pairs: {error}") from error
        return config.type_stride

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """One sequence per row."""
        return self._examples(self.store.take(rows))

    def _examples(self, taken: dict[str, list[Any]]) -> list[Example]:
        assert self.label_rows is not None  # set by __init__
        labels = (
            taken["label"] if self.binary else [self.label_rows[label] for label in taken["label"]]
        )
        return [
            Example(sequence, labels=[label])
            for sequence, label in zip(self._sequences(taken), labels, strict=True)
        ]

    def _sequences(self, taken: dict[str, list[Any]]) -> list[Any]:
        if self.section.input != "pair":
            return to_sequences(taken[self.section.input], self.tokenizer, self.max_tokens)
        assert self.tokenizer is not None  # a model of texts
        pairs = list(zip(taken["text"], taken["text_pair"], strict=True))
        encoded = self.tokenizer.encode_pairs(pairs, self.max_tokens, type_stride=self.type_stride)
        return [item.ids for item in encoded]

    def terms(self, examples: Sequence[Example]) -> int:
        """One term per sequence."""
        return len(examples)

    def forward(self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch) -> Tensor:
        """Sum of the cross-entropies [nat]."""
        if self.shared is None:
            return self._loss(self._logits(model, head, packed), packed.labels)
        logits: Tensor = head(model.project(self.shared.pooled(model, packed)))
        return self._loss(logits.float(), packed.labels)

    def _loss(self, logits: Float[Tensor, "S K"], labels: Tensor) -> Tensor:
        if self.binary:
            return F.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="sum")
        return F.cross_entropy(logits, labels, reduction="sum")

    def _logits(
        self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch
    ) -> Float[Tensor, "S K"]:
        hidden = model.encoder(packed.inputs, None, packed.cu_seqlens)
        pooled = pool(hidden, model.config.pooling, None, packed.cu_seqlens)
        logits: Tensor = head(model.project(pooled))
        return logits.float()

    @torch.no_grad()
    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """Mean loss [nat] and accuracy on the held-out examples.

        Of a reranker also the mean reciprocal rank, over the texts that occur in several pairs, of
        which some are relevant and some are not.
        """
        if self.held_out is None:
            return {}
        device = next(model.parameters()).device
        examples = self._examples(self.held_out.take(range(len(self.held_out))))
        logits = torch.empty(len(examples), len(self.head_config.labels))
        for rows in batches_by_length([len(e.inputs) for e in examples], EVALUATION_TOKENS):
            packed = pack([examples[row] for row in rows], device)
            logits[rows] = self._logits(model, head, packed).cpu()
        labels = torch.tensor([label for example in examples for label in example.labels])
        loss = float(self._loss(logits, labels)) / len(examples)
        if not self.binary:
            right = logits.argmax(-1) == labels
            return {"held_out_loss": loss, "accuracy": float(right.float().mean())}
        relevant = labels >= RELEVANT
        right = (logits[:, 0] > 0) == relevant
        found = {"held_out_loss": loss, "accuracy": float(right.float().mean())}
        if self.groups:
            found["mrr"] = mean_reciprocal_rank(self.groups, logits[:, 0], relevant)
        return found

    def finish(self, model: EmbeddingModel, head: nn.Module) -> nn.Module:
        """Give the model its head, unless the encoder alone is kept.

        What belongs to vectors goes: smaller widths, and prompts, with which nothing was trained.
        """
        if self.section.keep == "encoder":
            return head
        model.config = replace(model.config, head=self.head_config, matryoshka_dims=())
        model.prompts, model.default_prompt_name = {}, None
        assert isinstance(head, ClassifierHead)  # a copy of self.head
        model.head = head
        return nn.Identity()

    def record(self) -> dict[str, object]:
        """The classes, and the labels of the logits, in their order."""
        labels = list(self.head_config.labels)
        return {"labels": labels} if self.binary else {"classes": self.classes, "labels": labels}


def _classes(store: ExampleStore) -> list[str | int]:
    classes = sorted(set(store.column("label")))
    if len(classes) < 2:
        raise ConfigError(f"at least two different labels are needed, got {classes}")
    return classes


def _relevances(store: ExampleStore) -> list[str | int]:
    """No classes, once some pairs are known to be relevant and some not."""
    marks = {label >= RELEVANT for label in store.column("label")}
    if len(marks) < 2:
        side = "at least" if True in marks else "below"
        raise ConfigError(
            f"a reranker needs relevant and irrelevant pairs, got only labels of {side} {RELEVANT}"
        )
    return []


def _new_head(classes: Sequence[str | int], binary: bool) -> HeadConfig:
    labels = (RELEVANCE,) if binary else tuple(map(str, classes))
    return HeadConfig(kind="classifier", labels=labels, dense=False, score=_score(binary))


def _score(binary: bool) -> Literal["sigmoid", "softmax"]:
    return "sigmoid" if binary else "softmax"


def _rows_of(
    start: StartHead | None, classes: Sequence[str | int], binary: bool
) -> dict[str | int, int] | None:
    """Row of the head to start from of each class; None where it has other labels.

    Integers that are no names of labels are rows themselves, as transformers takes them.
    """
    if start is None or start.config.kind != "classifier":
        return None
    labels = start.config.labels
    if binary or len(labels) == 1:
        return {} if binary and len(labels) == 1 else None
    if all(str(label) in labels for label in classes):
        return {label: labels.index(str(label)) for label in classes}
    if all(isinstance(label, int) and 0 <= label < len(labels) for label in classes):
        return {label: int(label) for label in classes}
    return None
