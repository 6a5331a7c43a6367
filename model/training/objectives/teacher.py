"""Teachers: sentence encoders whose vectors a student learns.

A teacher embeds every text once: ``TeacherVectors`` keeps its vectors on disk (float16) by the
digest of the text, for all data sets and runs. An interrupted pass resumes where it stopped.
Importing this module imports no torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from osa.model.common.progress import Progress
from osa.model.common.requirements import require
from osa.model.errors import ConfigError
from osa.model.processor import has_fast_bfloat16

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS_A_FILE = 4096
DIGEST_BYTES = 16
PACKAGE = "package:"
WEIGHTS = "model.safetensors"


def locate_teacher(name: str) -> Path:
    """Directory of a teacher: a path, or a folder of an installed package, ``package:NAME/FOLDER``.

    Raises:
        ConfigError: No such directory or package.
    """
    if name.startswith(PACKAGE):
        package, _, folder = name.removeprefix(PACKAGE).partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(f"teacher {name!r}: the package {package} is not installed")
        path = Path(spec.origin).parent / folder
    else:
        path = Path(name)
    if not (path / "modules.json").is_file():
        raise ConfigError(f"teacher {path} is no sentence-transformers directory (modules.json)")
    return path


def teacher_digest(directory: Path) -> str:
    """sha256 of a teacher's weights.

    Raises:
        ConfigError: The directory has no ``model.safetensors`` of its own.
    """
    try:
        return hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"teacher {directory} has no readable {WEIGHTS}") from error


@dataclass
class Teacher:
    """A sentence encoder that is loaded when it first embeds a text.

    Attributes:
        directory: Of sentence-transformers.
        max_tokens: Longest input, special tokens included; longer ones are truncated.
    """

    directory: Path
    max_tokens: int

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float16 [n, E].

        Raises:
            ConfigError: sentence-transformers is not installed.
        """
        vectors = self._encoder.encode(
            list(texts),
            batch_size=64,
            convert_to_tensor=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        half: np.ndarray = vectors.float().cpu().numpy().astype(np.float16)
        return half

    @functools.cached_property
    def _encoder(self) -> SentenceTransformer:
        """The encoder, on a GPU if there is one, in bfloat16 where that is fast."""
        require("the objective distill", "train", "sentence_transformers")
        import torch
        from sentence_transformers import SentenceTransformer

        device = "cuda" if torch.cuda.is_available() else "cpu"
        encoder = SentenceTransformer(str(self.directory), device=device, local_files_only=True)
        encoder.max_seq_length = min(self.max_tokens, encoder.max_seq_length or self.max_tokens)
        return encoder.to(torch.bfloat16 if has_fast_bfloat16(device) else torch.float32).eval()


Embed = Callable[[Sequence[str]], np.ndarray]
"""Unit vectors [n, E] of n texts."""


class TeacherVectors:
    """Cache on disk of one teacher's vectors by text; damaged files count as missing."""

    def __init__(self, directory: Path, embed: Embed) -> None:
        """Open or create the cache in ``directory``; ``embed`` computes vectors not cached yet."""
        self.directory, self._embed = directory, embed
        directory.mkdir(parents=True, exist_ok=True)
        self._shards: list[np.ndarray] = []
        digests = []
        for file in sorted(directory.glob("*.npz")):
            try:
                with np.load(file) as shard:
                    digests.append(shard["digests"])
                    self._shards.append(shard["vectors"])
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                continue
        self._index(digests)

    def _index(self, digests: list[np.ndarray]) -> None:
        empty = np.empty(0, dtype=f"S{DIGEST_BYTES}")
        joined = np.concatenate([empty, *digests])
        self._order = np.argsort(joined, kind="stable")
        self._digests = joined[self._order]

    def get(self, texts: Sequence[str], progress: bool = True) -> np.ndarray:
        """Vectors of ``texts`` [n, E], float16; those not cached are computed once and stored."""
        wanted = digests_of(texts)
        _, first = np.unique(wanted, return_index=True)
        missing = np.sort(first[~np.isin(wanted[first], self._digests)])
        added = []
        with Progress("teacher", "texts", len(missing), enabled=progress) as bar:
            for start in range(0, len(missing), TEXTS_A_FILE):
                rows = missing[start : start + TEXTS_A_FILE]
                vectors = self._embed([texts[row] for row in rows])
                self._write(wanted[rows], vectors)
                self._shards.append(vectors)
                added.append(wanted[rows])
                bar.update(len(rows))
        if added:
            known = np.empty_like(self._digests)
            known[self._order] = self._digests
            self._index([known, *added])
        places = self._order[np.searchsorted(self._digests, wanted)]
        return np.concatenate(self._shards)[places]

    def _write(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        name = hashlib.sha256(digests.tobytes()).hexdigest()[:16]
        partial = self.directory / f"{name}.{os.getpid()}.partial"
        with partial.open("wb") as file:
            np.savez(file, digests=digests, vectors=vectors)
        partial.replace(self.directory / f"{name}.npz")


def digests_of(texts: Sequence[str]) -> np.ndarray:
    """Digest of each text, as bytes of a fixed width [n]."""
    return np.array(
        [hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()[:DIGEST_BYTES]
         for text in texts],
        dtype=f"S{DIGEST_BYTES}",
    )  # fmt: skip
