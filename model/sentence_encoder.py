"""An OSA checkpoint as a module of sentence-transformers.

    from sentence_transformers import SentenceTransformer
    from osa.model.sentence_encoder import OsaEncoder

    model = SentenceTransformer(modules=[OsaEncoder("DIR")])      # OsaEncoder() is the packaged one

Vectors are those of ``EmbeddingModel.encode`` and of ``/embed`` but for rounding; the model can be
trained, saved and (with ``trust_remote_code=True``: the class is ours) loaded by
sentence-transformers. Needs ``pip install 'osa-encoder[train]'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import InputModule
from tokenizers import Tokenizer
from torch import Tensor

from osa.model.common.inputs import read_texts
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import InputError
from osa.model.layers.pooling import normalize, pool


class OsaEncoder(InputModule):
    """Encoder, pooling, projection and normalisation in one module."""

    save_in_root = False

    def __init__(self, directory: str | Path | None = None) -> None:
        """Load a checkpoint, by default the packaged one.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
            InputError: It is a model of features: sentence-transformers embeds text.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = EmbeddingModel.from_pretrained(directory)
        if self.model.tokenizer is None:
            raise InputError("sentence-transformers embeds text: this checkpoint has no tokenizer")
        self.max_seq_length = self.model.config.max_seq_len

    @property
    def tokenizer(self) -> Tokenizer:  # type: ignore[override]  # a variable there, never set
        """The model's tokenizer, an object of ``tokenizers``."""
        assert self.model.tokenizer is not None  # checked by the constructor
        tokenizer = Tokenizer.from_str(self.model.tokenizer.to_json())
        tokenizer.encode_special_tokens = True  # special tokens in texts are text
        return tokenizer

    def get_embedding_dimension(self) -> int:
        """Width of the vectors."""
        return self.model.config.output_size

    def preprocess(  # type: ignore[override]  # texts alone
        self, inputs: Sequence[str], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Token ids and mask of a padded batch [B, N]; longer texts are cut on the right.

        Raises:
            InputError: An input that is empty or not a text; says where.
        """
        texts = read_texts(inputs, "inputs")
        assert self.model.tokenizer is not None  # checked by the constructor
        limit = min(self.max_seq_length, self.model.config.max_seq_len)
        found = self.model.tokenizer.encode(texts, limit, prompt=prompt or "")
        rows = [tokenized.ids for tokenized in found]
        width = max(map(len, rows), default=0)
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        mask = torch.zeros(len(rows), width, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add ``token_embeddings`` [B, N, D] and unit ``sentence_embedding`` [B, E]."""
        mask = features["attention_mask"] != 0
        hidden = self.model.encoder(features["input_ids"], mask, None)
        pooled = pool(hidden, self.model.config.pooling, mask, None)
        embeddings = normalize(self.model.project(pooled)).embeddings
        return features | {"token_embeddings": hidden, "sentence_embedding": embeddings}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint directory, which ``osa serve`` takes too."""
        self.model.save_pretrained(output_path)

    @classmethod
    def load(  # type: ignore[override]  # the rest is of hubs
        cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> OsaEncoder:
        """Load what ``save`` wrote, from a directory of this machine.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
        """
        return cls(Path(model_name_or_path) / subfolder)
