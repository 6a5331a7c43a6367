"""``EmbeddingModel``: encoder, pooling, projection and normalisation in one graph, plus text.

Shapes: B batch, N tokens, S sequences, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from osa.model.calibration import Calibration
from osa.model.checkpoint import (
    CONFIG,
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from osa.model.common.directories import PRETRAINED as PRETRAINED
from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError, InputError
from osa.model.functional.tiling import project_rows
from osa.model.functional.varlen import batches_by_length, check_cu_seqlens, cu_seqlens_of
from osa.model.layers.encoder import Encoder
from osa.model.layers.initialization import orthonormal, shapes_alone
from osa.model.layers.pooling import EmbeddingOutput, normalize, pool
from osa.model.tokenization import TextTokenizer, id_out_of_range


def check_ids(config: EncoderConfig, sequences: Sequence[Sequence[int]]) -> None:
    """Refuse id sequences that do not fit a model of this configuration.

    Raises:
        InputError: An empty batch or sequence, one that is too long, or an id out of range.
    """
    if config.vocab_size is None:
        raise InputError("this model takes feature vectors, not token ids")
    if not sequences:
        raise InputError("at least one sequence is needed, got none")
    for row, ids in enumerate(sequences):
        if not 1 <= len(ids) <= config.max_seq_len:
            raise InputError(
                f"sequence {row} has {len(ids)} tokens, allowed are 1 to {config.max_seq_len}"
            )
        wrong = id_out_of_range(ids, config.vocab_size)
        if wrong is not None:
            raise InputError(
                f"sequence {row} holds id {wrong}, allowed are 0 to {config.vocab_size - 1}"
            )


class EmbeddingModel(nn.Module):
    """Texts, ids or features to unit vectors."""

    def __init__(
        self,
        config: EncoderConfig,
        tokenizer: TextTokenizer | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Create an untrained model; see ``from_pretrained`` for a trained one.

        Raises:
            ConfigError: The configuration cannot be built.
        """
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.checkpoint_sha256 = ""
        self.calibration: Calibration | None = None
        self.encoder = Encoder(config, generator)
        self.projection: nn.Linear | None = None
        if config.output_size != config.hidden_size:
            self.projection = nn.Linear(config.hidden_size, config.output_size, bias=False)
            weight = orthonormal(config.output_size, config.hidden_size, generator)
            self.projection.weight.data.copy_(weight)

    def forward(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> EmbeddingOutput:
        """Return one unit vector per sequence, and its length before normalising.

        Args:
            inputs: Token ids or features; [1, T] with all sequences end to end when packed.
            mask: True at real tokens of a padded batch, bool [B, N].
            cu_seqlens: Offsets of a packed batch, integers [S + 1].

        Raises:
            InputError: Masks or offsets that do not fit, or sequences that are too long.
        """
        pooled = pool(self.encoder(inputs, mask, cu_seqlens), self.config.pooling, mask, cu_seqlens)
        if self.projection is not None:
            pooled = project_rows(self.projection, pooled)
        return normalize(pooled)

    def embed_tokens(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[EmbeddingOutput, Float[Tensor, "B N E"]]:
        """``forward``, and every token's own vector, projected and not normalised.

        With mean pooling a sequence's vector has the direction of the mean of its tokens' vectors;
        rows of padding are meaningless.

        Raises:
            InputError: As ``forward``.
        """
        hidden = self.encoder(inputs, mask, cu_seqlens)
        pooled = pool(hidden, self.config.pooling, mask, cu_seqlens)
        if self.projection is None:
            return normalize(pooled), hidden
        tokens = project_rows(self.projection, hidden.flatten(0, 1))
        projected = project_rows(self.projection, pooled)
        return normalize(projected), tokens.unflatten(0, hidden.shape[:2])

    def embed_spans(
        self,
        inputs: Int[Tensor, "1 T"] | Float[Tensor, "1 T F"],
        cu_seqlens: Int[Tensor, " S1"],
        spans: Int[Tensor, " R1"],
    ) -> EmbeddingOutput:
        """One vector per span of tokens, each computed within its whole sequence (late chunking).

        Args:
            inputs: Packed ids or features.
            cu_seqlens: Offsets of the sequences.
            spans: Offsets of the spans, from 0 to T; those of whole sequences give the vectors
                of ``forward``.

        Raises:
            InputError: Offsets that do not fit, or sequences that are too long.
        """
        check_cu_seqlens(spans, inputs.shape[1])
        hidden = self.encoder(inputs, None, cu_seqlens)
        pooled = pool(hidden, self.config.pooling, None, spans)
        if self.projection is not None:
            pooled = project_rows(self.projection, pooled)
        return normalize(pooled)

    def embed_ids(self, sequences: Sequence[Sequence[int]]) -> EmbeddingOutput:
        """Embed id sequences as one packed batch, on the model's device.

        Raises:
            InputError: An empty batch or sequence, one that is too long, or an id out of range.
        """
        packed, offsets = self.pack_ids(sequences)
        output: EmbeddingOutput = self(packed, cu_seqlens=offsets)
        return output

    def pack_ids(
        self, sequences: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "1 T"], Int[Tensor, " S1"]]:
        """Id sequences as one packed batch and its offsets, on the model's device.

        Raises:
            InputError: An empty batch or sequence, one that is too long, or an id out of range.
        """
        check_ids(self.config, sequences)
        device = next(self.parameters()).device
        packed = torch.tensor([token for ids in sequences for token in ids], device=device)
        return packed[None], cu_seqlens_of([len(ids) for ids in sequences], device)

    @torch.no_grad()
    def encode(
        self, texts: str | Sequence[str], *, batch_tokens: int = 8192, normalize: bool = True
    ) -> Float[Tensor, "S E"] | Float[Tensor, " E"]:
        """Embed texts; those longer than ``max_seq_len`` are truncated on the right.

        Args:
            texts: Texts; a single string gives a single vector.
            batch_tokens: Largest batch [tokens].
            normalize: Unit vectors; otherwise the pooled vectors as they are.

        Raises:
            InputError: No tokenizer, or a text that is empty or not valid Unicode.
        """
        if isinstance(texts, str):
            vector: Tensor = self.encode([texts], batch_tokens=batch_tokens, normalize=normalize)[0]
            return vector
        if self.tokenizer is None:
            raise InputError("this model has no tokenizer: call it on ids or features")
        for row, text in enumerate(texts):
            if not text:
                raise InputError(f"text {row} is empty")
        tokenized = self.tokenizer.encode(texts, self.config.max_seq_len)
        vectors = torch.empty(len(texts), self.config.output_size)
        for rows in batches_by_length([len(text.ids) for text in tokenized], batch_tokens):
            output = self.embed_ids([tokenized[row].ids for row in rows])
            scale = 1.0 if normalize else output.norms[:, None]
            vectors[rows] = (output.embeddings * scale).float().cpu()
        return vectors

    def save_pretrained(
        self,
        directory: str | Path,
        dtype: torch.dtype | None = None,
        extra: dict[str, bytes] | None = None,
    ) -> None:
        """Write a checkpoint directory atomically; see ``osa.model.checkpoint.save_checkpoint``.

        Raises:
            CheckpointError: What could not be loaded again, such as a model of ``use_bfloat16``;
                or ``directory`` holds other files.
        """
        with shapes_alone():
            wanted = EmbeddingModel(self.config).state_dict()
        state = self.state_dict()
        if state.keys() != wanted.keys():
            raise CheckpointError(
                "this model's layers were replaced for inference (use_bfloat16), and could not be "
                "loaded again: save it before that, or load it in float32 and save that"
            )
        checkpoint = Checkpoint(self.config, state, self.tokenizer)
        save_checkpoint(Path(directory), checkpoint, dtype, extra)

    @classmethod
    def from_pretrained(cls, directory: str | Path | None = None) -> EmbeddingModel:
        """Load a checkpoint in float32, ready for inference; default is the packaged model.

        Raises:
            CheckpointError: Naming the file, field or tensor at fault.
        """
        source = PRETRAINED if directory is None else Path(directory)
        checkpoint = load_checkpoint(source)
        try:
            with shapes_alone():
                model = cls(checkpoint.config, checkpoint.tokenizer)
        except (ConfigError, RuntimeError, TypeError, OverflowError) as error:
            raise CheckpointError(f"{source / CONFIG}: {error}") from error
        load_weights(model, checkpoint.weights, source)
        model.checkpoint_sha256 = checkpoint.sha256
        model.calibration = checkpoint.calibration
        return model.eval()
