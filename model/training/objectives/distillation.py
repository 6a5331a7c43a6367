"""Distillation of a sentence encoder: the student learns the teacher's vectors and similarities.

    loss = mean(1 - cos(s_i, t_i)) + w * mean over widths k of mean((s_i . s_j)_k - t_i . t_j)^2

The similarities of the k leading dimensions are compared with the teacher's full ones, which makes
shorter vectors meaningful (Matryoshka, arXiv:2205.13147).

A text longer than a segment is one sequence for the student, in which every segment has a vector
(a late chunk); the teacher embeds the segments one by one. The target of the whole is the mean of
its segments' vectors, weighted by their tokens.

Shapes: R vectors of a batch, E embedding width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from osa.model.common.progress import Progress
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import CheckpointError, ConfigError
from osa.model.tokenization import TextTokenizer
from osa.model.training.data.batch import Example
from osa.model.training.data.store import ExampleStore
from osa.model.training.evaluation import agreement
from osa.model.training.objectives.base import EmbeddingObjective, Loss, ObjectiveInputs
from osa.model.training.objectives.registry import DistillSection
from osa.model.training.objectives.segments import segment_texts
from osa.model.training.objectives.teacher import (
    WEIGHTS,
    Teacher,
    TeacherVectors,
    locate_teacher,
    teacher_digest,
)

KEYS_PER_EXAMPLE = 1 << 20
"""Key 0 of an example is a text of one segment, key 1 + i is segment i of a longer one."""
TEXTS_PER_BLOCK = 4096


def principal_rotation(vectors: np.ndarray, sample: int = 50000) -> Float[Tensor, "E E"]:
    """Orthogonal matrix whose columns are the principal axes of ``vectors``, largest first."""
    block = torch.from_numpy(np.asarray(vectors[:sample], dtype=np.float64))
    _, axes = torch.linalg.eigh(block.T @ block)
    axes = axes.flip(-1)
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    rotation: Tensor = (axes * signs).float()
    return rotation


def distillation_loss(
    student: Float[Tensor, "R E"],
    teacher: Float[Tensor, "R T"],
    similarity_weight: float,
    widths: Sequence[int],
    basis: Float[Tensor, "T E"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss and its cosine part.

    Args:
        student: Unit vectors.
        teacher: Unit vectors of the same texts.
        similarity_weight: Weight of the similarity loss.
        widths: Leading dimensions whose similarities are compared.
        basis: Directions among the teacher's dimensions T that the student's are, if they differ.

    Raises:
        ConfigError: Student and teacher differ in width.
    """
    width = student.shape[1] if basis is None else basis.shape[0]
    if width != teacher.shape[1]:
        raise ConfigError(
            f"the student gives {width} dimensions, the teacher {teacher.shape[1]}: "
            "set model.embedding_size"
        )
    seen = teacher if basis is None else teacher @ basis
    cosine = (1.0 - (student * seen).sum(-1)).mean()
    target = teacher @ teacher.T
    gaps = []
    for width in widths:
        part = F.normalize(student[:, :width], dim=-1)
        gaps.append((part @ part.T - target).square().mean())
    return cosine + similarity_weight * torch.stack(gaps).mean(), cosine


@torch.no_grad()
def copy_word_embeddings(directory: Path, model: EmbeddingModel) -> None:
    """Copy a teacher's token embeddings into a model of texts with the same vocabulary.

    Raises:
        CheckpointError: The teacher's weights have no single table of word embeddings.
        ConfigError: The tables differ in shape.
    """
    weights = load_file(directory / WEIGHTS)
    names = [name for name in weights if name.endswith("word_embeddings.weight")]
    if len(names) != 1:
        raise CheckpointError(f"{directory / WEIGHTS} holds no word_embeddings.weight")
    source, target = weights[names[0]], model.encoder.embed.weight
    assert isinstance(target, Tensor)  # a token model, by construction
    source = source[: target.shape[0]]  # tables are often padded beyond the vocabulary
    if source.shape != target.shape:
        raise ConfigError(
            f"the teacher's embeddings are {tuple(source.shape)}, the student's "
            f"{tuple(target.shape)}: set distill.start_embeddings = false"
        )
    target.copy_(source)


class SegmentTable:
    """The segments of every text of a store, and the teacher's vectors of them.

    Attributes:
        offsets: First segment of each text, and one past the last of all [n + 1].
        vectors: Of the segments, float16 [m, E].
        digest: Of the segments; empty where every text is one.
    """

    def __init__(
        self,
        store: ExampleStore,
        tokenizer: TextTokenizer,
        max_tokens: int,
        cache: TeacherVectors,
        progress: bool,
    ) -> None:
        """Cut all texts, and have the teacher embed the segments that are not cached.

        Args:
            store: Texts in the field ``text``.
            tokenizer: The student's.
            max_tokens: Longest segment [tokens].
            cache: The teacher's vectors.
            progress: Show progress bars.
        """
        segments: list[str] = []
        counts: list[int] = []
        with Progress("cutting into segments", "texts", len(store), enabled=progress) as bar:
            for start in range(0, len(store), TEXTS_PER_BLOCK):
                texts = store.take(range(start, min(len(store), start + TEXTS_PER_BLOCK)))["text"]
                for parts in segment_texts(tokenizer, texts, max_tokens):
                    segments += parts
                    counts.append(len(parts))
                bar.update(len(texts))
        self.offsets = np.concatenate([[0], np.cumsum(counts)])
        self.digest = ""
        if len(segments) > len(counts):
            self.digest = hashlib.sha256("\0".join(segments).encode()).hexdigest()
        self.vectors = cache.get(segments, progress)

    def count(self, row: int) -> int:
        """Number of segments of a text."""
        return int(self.offsets[row + 1] - self.offsets[row])


class Distillation(EmbeddingObjective):
    """Objective ``distill``."""

    section: DistillSection
    parts = ("cosine_loss",)
    scores = ("cosine", "retrieval")

    def __init__(self, section: DistillSection, inputs: ObjectiveInputs) -> None:
        """Cut the texts into segments and have the teacher embed them; see ``Objective``.

        Raises:
            ConfigError: No such teacher, or token embeddings that do not fit.
            CheckpointError: The teacher's weights have no single table of word embeddings.
        """
        super().__init__(section, inputs)
        model = inputs.model
        assert model.tokenizer is not None  # students read texts
        self.tokenizer = model.tokenizer
        self.widths = model.config.allowed_dimensions
        self.device = next(model.parameters()).device
        directory = locate_teacher(section.teacher)
        if inputs.is_new and section.start_embeddings:
            copy_word_embeddings(directory, model)
        self.identity = teacher_digest(directory)
        budget = section.segment_tokens
        cache = TeacherVectors(
            section.cache / f"{self.identity[:16]}-{budget}", Teacher(directory, budget + 2).embed
        )

        def table(store: ExampleStore) -> SegmentTable:
            return SegmentTable(store, self.tokenizer, budget, cache, inputs.progress)

        self.held_out_table = None if self.held_out is None else table(self.held_out)
        self.table = table(self.store)
        self.teacher, self.identity = self.identity, self.identity + self.table.digest
        self.rotation = torch.eye(self.table.vectors.shape[1])
        if section.rotate:
            self.rotation = principal_rotation(self.table.vectors)

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """Texts of one segment whole; consecutive segments of longer ones."""
        texts = self.store.take(rows)["text"]
        short = [i for i, row in enumerate(rows) if self.table.count(row) == 1]
        encoded = self.tokenizer.encode([texts[i] for i in short], self.max_tokens)
        found = {
            i: Example(item.ids, (int(places[i]) * KEYS_PER_EXAMPLE,))
            for i, item in zip(short, encoded, strict=True)
        }
        for i, row in enumerate(rows):
            if i not in found:
                found[i] = self._long(texts[i], int(row), int(places[i]), step)
        return [found[i] for i in range(len(rows))]

    def _long(self, text: str, row: int, place: int, step: int) -> Example:
        """Consecutive segments as one sequence; keys number the segments of the whole text."""
        tokenizer = self.tokenizer
        parts = segment_texts(tokenizer, [text], self.section.segment_tokens)[0]
        ids = tokenizer.encode_parts(parts)
        low, high = self._window([len(part) for part in ids], row, step)
        ids = ids[low:high]
        lengths = [len(part) for part in ids]
        lengths[0] += len(tokenizer.prefix)
        lengths[-1] += len(tokenizer.suffix)
        tokens = [*tokenizer.prefix, *(token for part in ids for token in part), *tokenizer.suffix]
        keys = tuple(place * KEYS_PER_EXAMPLE + 1 + number for number in range(low, high))
        return Example(tokens, keys, tuple(lengths))

    def _window(self, lengths: list[int], row: int, step: int) -> tuple[int, int]:
        """Segments [low, high) of a text: random with ``crop``, else the first that fit."""
        most = self.max_tokens - self.tokenizer.num_special_tokens
        low, budget = 0, float(most)
        if self.section.crop:
            generator = np.random.default_rng([self.seed, step, row])
            shortest = min(2.0 * self.section.segment_tokens, most)
            budget = np.exp(generator.uniform(np.log(shortest), np.log(most)))
            low = int(generator.integers(len(lengths)))
        high, tokens = low, 0
        while high < len(lengths) and (high == low or tokens + lengths[high] <= budget):
            tokens += lengths[high]
            high += 1
        while low > 0 and tokens + lengths[low - 1] <= budget:
            low -= 1
            tokens += lengths[low]
        return low, high

    def loss(
        self, vectors: Float[Tensor, "R E"], keys: np.ndarray, sizes: np.ndarray, rows: np.ndarray
    ) -> Loss:
        """Loss of the segments, of the texts of one segment, and of each longer text as a whole."""
        places, numbers = keys // KEYS_PER_EXAMPLE, keys % KEYS_PER_EXAMPLE
        found = self.table.vectors[self.table.offsets[rows[places]] + np.maximum(numbers - 1, 0)]
        target = self._rotate(found)
        long, owner = np.unique(places[numbers > 0], return_inverse=True)
        if len(long):
            weight = torch.zeros(len(long), len(keys), device=vectors.device)
            segments = torch.from_numpy(np.flatnonzero(numbers > 0)).to(vectors.device)
            owners = torch.from_numpy(owner).to(vectors.device)
            weight[owners, segments] = torch.from_numpy(sizes[numbers > 0]).to(weight)
            weight = weight / weight.sum(1, keepdim=True)
            vectors = torch.cat([vectors, weight @ vectors])
            target = torch.cat([target, F.normalize(weight @ target, dim=-1)])
        student = F.normalize(vectors, dim=-1)
        total, cosine = distillation_loss(
            student, target, self.section.similarity_weight, self.widths, self.basis
        )
        return Loss(total, {"cosine_loss": cosine.item()})

    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """Agreement with the teacher on the held-out texts of one segment."""
        if self.held_out is None or self.held_out_table is None:
            return {}
        table, texts = self.held_out_table, list(self.held_out.column("text"))
        short = np.array([row for row in range(len(texts)) if table.count(row) == 1])
        vectors = model.encode([texts[row] for row in short])
        if model.bottleneck is not None:  # back among the teacher's dimensions
            vectors = vectors @ model.bottleneck.basis.cpu()
        return agreement(
            vectors,
            self._rotate(table.vectors[table.offsets[short]]).cpu(),
        )

    def record(self) -> dict[str, object]:
        """Digest of the teacher, and number of segments that it embedded."""
        return {"teacher": {"sha256": self.teacher}, "segments": int(self.table.offsets[-1])}

    def _rotate(self, vectors: np.ndarray) -> Tensor:
        rotated = torch.from_numpy(np.asarray(vectors, dtype=np.float32)) @ self.rotation
        return F.normalize(rotated, dim=-1).to(self.device)
