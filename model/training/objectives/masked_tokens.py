"""Masked-token pretraining from raw text (Devlin et al., arXiv:1810.04805).

Of the tokens to predict 80 % are replaced by the mask, 10 % by a random token, 10 % stay. The
output weights are the token embeddings.

Shapes: T packed tokens, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.training.data.batch import IGNORED, Example, PackedBatch, pack, split_into_chunks
from osa.model.training.objectives.base import EVALUATION_TOKENS, ObjectiveInputs, TokenObjective
from osa.model.training.objectives.registry import MlmSection


class MaskedTokenHead(nn.Module):
    """Transform and bias before the tied output weights."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        """Create the head as an identity with a zero bias, so that a run starts from the model."""
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size, bias=False)
        self.norm = nn.RMSNorm(hidden_size, eps=1e-6)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.eye_(self.dense.weight)

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Logits [T, V] of hidden states [T, D] and token embeddings [V, D]."""
        width = hidden.shape[-1]
        states = self.norm(F.gelu(self.dense(hidden)).to(self.norm.weight.dtype))
        logits: Tensor = F.linear(states, embeddings) / width**0.5 + self.bias
        return logits


class MaskedTokens(TokenObjective):
    """Objective ``mlm``."""

    section: MlmSection
    scores = ("held_out_loss", "accuracy")

    def __init__(self, section: MlmSection, inputs: ObjectiveInputs) -> None:
        """Find the mask token and create the head; see ``Objective``.

        Raises:
            ConfigError: The vocabulary has no such mask.
        """
        super().__init__(section, inputs)
        model = inputs.model
        assert model.tokenizer is not None  # masked tokens are tokens of a text
        assert model.config.vocab_size is not None
        self.tokenizer, self.vocab_size = model.tokenizer, model.config.vocab_size
        mask = self.tokenizer.id_of(section.mask_token)
        if mask is None:
            raise ConfigError(f"mlm.mask_token {section.mask_token!r} is not in the vocabulary")
        self.mask = mask
        self.head = MaskedTokenHead(model.config.hidden_size, self.vocab_size)

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        """Masked texts; which tokens are masked depends on seed, update and row."""
        texts = self.store.take(rows)["text"]
        return [
            self._mask(item.ids, np.random.default_rng([self.seed, step, int(row)]))
            for row, item in zip(rows, self.tokenizer.encode(texts, self.max_tokens), strict=True)
        ]

    def _mask(self, ids: list[int], generator: np.random.Generator) -> Example:
        tokens = np.array(ids)
        low, high = len(self.tokenizer.prefix), len(ids) - len(self.tokenizer.suffix)
        if high <= low:
            return Example(ids, labels=[IGNORED] * len(ids))
        inner = high - low
        count = max(1, round(self.section.mask_share * inner))
        chosen = low + generator.choice(inner, count, replace=False)
        labels = np.full(len(ids), IGNORED)
        labels[chosen] = tokens[chosen]
        kind = generator.random(count)
        tokens[chosen[kind < 0.8]] = self.mask
        other = chosen[kind >= 0.9]
        tokens[other] = generator.integers(self.vocab_size, size=len(other))
        return Example(tokens.tolist(), labels=labels.tolist())

    def terms(self, examples: Sequence[Example]) -> int:
        """Number of tokens to predict."""
        return sum(label != IGNORED for example in examples for label in example.labels)

    def forward(self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch) -> Tensor:
        """Sum of the cross-entropies [nat]."""
        if self.shared is None:
            return self._predict(model, head, packed)[0]
        hidden, places = self.shared.tokens(model, packed)
        return self.shared.group.total(self._compare(model, head, hidden, packed.labels[places])[0])

    def _predict(
        self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch
    ) -> tuple[Tensor, Tensor]:
        hidden = model.encoder(packed.inputs, None, packed.cu_seqlens)[0]
        return self._compare(model, head, hidden, packed.labels)

    def _compare(
        self, model: EmbeddingModel, head: nn.Module, hidden: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        places = (labels != IGNORED).nonzero()[:, 0]
        wanted = labels[places]
        logits = head(hidden[places], model.encoder.embed.weight).float()
        right = (logits.argmax(-1) == wanted).sum()
        return F.cross_entropy(logits, wanted, reduction="sum"), right

    @torch.no_grad()
    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        """Mean loss [nat] and accuracy on held-out texts, masked the same way every time."""
        if self.held_out is None:
            return {}
        ids = self.tokenizer.encode(list(self.held_out.column("text")), self.max_tokens)
        examples = [
            self._mask(item.ids, np.random.default_rng([self.seed, row]))
            for row, item in enumerate(ids)
        ]
        device = next(model.parameters()).device
        loss = right = 0.0
        for group in split_into_chunks(examples, EVALUATION_TOKENS):
            part, found = self._predict(model, head, pack(group, device))
            loss, right = loss + part.item(), right + found.item()
        terms = max(1, self.terms(examples))
        return {"held_out_loss": loss / terms, "accuracy": right / terms}
