"""``EmbeddingModel``: encoder, pooling, projection and normalisation in one graph, plus text.

Shapes: B batch, N tokens, S sequences, E embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from osa.model.calibration import Calibration
from osa.model.checkpoint import (
    CONFIG,
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from osa.model.common.directories import PRETRAINED as PRETRAINED
from osa.model.common.directories import kind_of, packaged_model
from osa.model.common.inputs import (
    FeatureSequences,
    IdSequences,
    Texts,
    read_features,
    read_ids,
    read_texts,
)
from osa.model.config import EncoderConfig
from osa.model.documents.encoding import DocumentEncoding
from osa.model.errors import CheckpointError, ConfigError, InputError
from osa.model.functional.tiling import project_rows
from osa.model.functional.varlen import batches_by_length, check_cu_seqlens
from osa.model.hub import read_model
from osa.model.layers.bottleneck import make_bottleneck
from osa.model.layers.encoder import Encoder
from osa.model.layers.heads import HEAD_ACTIVATIONS, SparseHead, make_head
from osa.model.layers.initialization import make_projection, shapes_alone
from osa.model.layers.pooling import EmbeddingOutput, as_they_are, pool
from osa.model.sequences import InputRows, check_features, pack_features, pack_ids
from osa.model.streaming.encoding import STREAMED_FROM
from osa.model.tokenization import TextTokenizer


class EmbeddingModel(DocumentEncoding):
    """Texts, ids or features to unit vectors, or to what the model's head computes."""

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
        self.prompts: Mapping[str, str] = {}
        self.default_prompt_name: str | None = None
        self.encoder = Encoder(config, generator)
        self.projection = make_projection(config, generator)
        self.bottleneck = make_bottleneck(config)
        self.head = make_head(config)

    def forward(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> EmbeddingOutput:
        """Return one unit vector per sequence, and its length before normalising.

        A model with a head returns what the head computes, as it is, and lengths of 1.

        Args:
            inputs: Token ids or features; [1, T] with all sequences end to end when packed.
            mask: True at real tokens of a padded batch, bool [B, N].
            cu_seqlens: Offsets of a packed batch, integers [S + 1].

        Raises:
            InputError: Masks or offsets that do not fit, or sequences that are too long.
        """
        return self.finish(self.encoder(inputs, mask, cu_seqlens), mask, cu_seqlens)

    def finish(
        self, hidden: Float[Tensor, "B N D"], mask: Tensor | None, cu_seqlens: Tensor | None
    ) -> EmbeddingOutput:
        """From the encoder's last hidden states to vectors, or to what the head computes.

        Args:
            hidden: States of every token.
            mask: True at real tokens of a padded batch, or None.
            cu_seqlens: Offsets of what is pooled of a packed batch, or None.
        """
        if isinstance(self.head, SparseHead):
            return as_they_are(self.head(hidden, mask, cu_seqlens))
        return self.finish_pooled(pool(hidden, self.config.pooling, mask, cu_seqlens))

    def project(self, states: Float[Tensor, "n D"], reduce: bool = True) -> Float[Tensor, "n E"]:
        """Pooled states as vectors, not normalised; before the bottleneck unless ``reduce``."""
        if self.projection is not None:
            activation = HEAD_ACTIVATIONS[self.config.embedding_activation]
            states = activation(project_rows(self.projection, states))
        return self.bottleneck(states) if reduce and self.bottleneck is not None else states

    def embed_tokens(
        self,
        inputs: Int[Tensor, "B N"] | Float[Tensor, "B N F"],
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[EmbeddingOutput, Float[Tensor, "B N E"]]:
        """``forward``, and every token's own vector, projected and not normalised.

        With mean pooling a sequence's vector has the direction of the mean of its tokens' vectors,
        unless the projection has a non-linearity; rows of padding are meaningless.

        Raises:
            InputError: As ``forward``.
        """
        hidden = self.encoder(inputs, mask, cu_seqlens)
        output = self.finish(hidden, mask, cu_seqlens)
        if self.projection is None and self.bottleneck is None:
            return output, hidden
        tokens = self.project(hidden.flatten(0, 1))
        return output, tokens.unflatten(0, hidden.shape[:2])

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
        return self.finish(hidden, None, spans)

    def embed_ids(self, sequences: IdSequences) -> EmbeddingOutput:
        """Embed id sequences as one packed batch.

        Raises:
            InputError: As ``check_ids``, or what is no list of ids.
        """
        return self._run(*self.pack_ids(read_ids(sequences, "sequences")))

    def embed_features(self, sequences: Sequence[np.ndarray]) -> EmbeddingOutput:
        """Embed feature sequences [n, F] as one packed batch; raises as ``check_features``."""
        return self._run(*self.pack_features(sequences))

    def _run(self, packed: Tensor, offsets: Int[Tensor, " S1"]) -> EmbeddingOutput:
        output: EmbeddingOutput = self(packed, cu_seqlens=offsets)
        return output

    def pack_ids(
        self, sequences: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "1 T"], Int[Tensor, " S1"]]:
        """Id sequences as one packed batch and its offsets; raises as ``check_ids``."""
        return pack_ids(self.config, sequences, next(self.parameters()).device)

    def pack_features(
        self, sequences: Sequence[np.ndarray]
    ) -> tuple[Float[Tensor, "1 T F"], Int[Tensor, " S1"]]:
        """Feature sequences as one packed batch and its offsets; raises as ``check_features``."""
        return pack_features(self.config, sequences, next(self.parameters()).device)

    def pack(self, sequences: InputRows) -> tuple[Tensor, Int[Tensor, " S1"]]:
        """``pack_ids`` or ``pack_features``, whichever the model takes."""
        if self.config.feature_size is None:
            return self.pack_ids(cast("Sequence[Sequence[int]]", sequences))
        return self.pack_features(cast("Sequence[np.ndarray]", sequences))

    @torch.no_grad()
    def encode(
        self, texts: Texts, *, batch_tokens: int = 8192, normalize: bool = True
    ) -> Float[Tensor, "S E"] | Float[Tensor, " E"]:
        """Embed texts; those longer than ``max_seq_len`` are truncated on the right.

        Args:
            texts: Texts; a single string gives a single vector.
            batch_tokens: Largest batch [tokens].
            normalize: Unit vectors; otherwise the pooled vectors as they are.

        Raises:
            InputError: No tokenizer, or a text that is empty, not valid Unicode or no text.
        """
        if isinstance(texts, str):
            vector: Tensor = self.encode([texts], batch_tokens=batch_tokens, normalize=normalize)[0]
            return vector
        if self.tokenizer is None:
            raise InputError("this model has no tokenizer: call it on ids or features")
        texts = read_texts(texts, "texts")
        tokenized = self.tokenizer.encode(texts, self.config.max_seq_len)
        vectors = torch.empty(len(texts), self.config.output_size)
        for rows in batches_by_length([len(text.ids) for text in tokenized], batch_tokens):
            first = rows[0]
            if len(rows) == 1 and len(tokenized[first].ids) > STREAMED_FROM and self.streams:
                vectors[first] = self.encode_stream([tokenized[first].ids], normalize=normalize)
                continue
            output = self._run(*self.pack_ids([tokenized[row].ids for row in rows]))
            scale = 1.0 if normalize else output.norms[:, None]
            vectors[rows] = (output.embeddings * scale).float().cpu()
        return vectors

    @torch.no_grad()
    def encode_features(
        self, sequences: FeatureSequences, *, batch_tokens: int = 8192
    ) -> Float[Tensor, "S E"]:
        """Unit vectors of feature sequences [n, F], in batches of ``batch_tokens`` rows.

        Raises:
            InputError: As ``check_features``, or what holds no numbers.
        """
        sequences = [
            read_features(rows, f"sequences[{place}]") for place, rows in enumerate(sequences)
        ]
        if sequences:
            check_features(self.config, sequences)
        vectors = torch.empty(len(sequences), self.config.output_size)
        for rows in batches_by_length([len(rows) for rows in sequences], batch_tokens):
            output = self.embed_features([sequences[row] for row in rows])
            vectors[rows] = output.embeddings.float().cpu()
        return vectors

    def save_pretrained(
        self,
        directory: str | Path,
        dtype: torch.dtype | None = None,
        extra: dict[str, bytes] | None = None,
    ) -> None:
        """Write a checkpoint directory atomically; see ``osa.model.checkpoint.save_checkpoint``.

        Raises:
            CheckpointError: What could not be loaded again, such as a model of ``use_dtype``;
                or ``directory`` holds other files.
        """
        with shapes_alone():
            wanted = EmbeddingModel(self.config).state_dict()
        state = self.state_dict()
        if state.keys() != wanted.keys():
            raise CheckpointError(
                "this model's layers were replaced for inference (use_dtype), and could not be "
                "loaded again: save it before that, or load it in float32 and save that"
            )
        checkpoint = Checkpoint(
            self.config,
            state,
            self.tokenizer,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
        )
        save_checkpoint(Path(directory), checkpoint, dtype, extra)

    @classmethod
    def from_pretrained(cls, directory: str | Path | None = None) -> EmbeddingModel:
        """Load a model in float32, ready for inference; default is the packaged one.

        Args:
            directory: A checkpoint, a directory of transformers or sentence-transformers, or
                ``packaged:NAME``.

        Raises:
            CheckpointError: Naming the file, field or tensor at fault.
            ConfigError: No packaged model has this name.
        """
        source = PRETRAINED if directory is None else packaged_model(Path(directory))
        read = read_model if kind_of(source) == "transformer" else load_checkpoint
        checkpoint = read(source)
        try:
            with shapes_alone():
                model = cls(checkpoint.config, checkpoint.tokenizer)
        except (ConfigError, RuntimeError, TypeError, OverflowError) as error:
            raise CheckpointError(f"{source / CONFIG}: {error}") from error
        load_weights(model, checkpoint.weights, source)
        model.checkpoint_sha256 = checkpoint.sha256
        model.calibration = checkpoint.calibration
        model.prompts = checkpoint.prompts
        model.default_prompt_name = checkpoint.default_prompt_name
        return model.eval()
