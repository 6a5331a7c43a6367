"""Teachers: sentence encoders whose vectors a student learns to give.

A teacher sees every text once: ``TeacherVectors`` keeps its vectors on disk (float16) by the
digest of the text, whatever data, order or run asks for them. An interrupted pass goes on where
it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from osa.model.common.progress import Progress
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK = 4096
DIGEST_BYTES = 16
PACKAGE = "package:"


def locate_teacher(name: str) -> Path:
    """Directory of a teacher: a path, or ``package:NAME/FOLDER`` inside an installed package.

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
        return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"teacher {directory} has no readable model.safetensors") from error


def load_teacher(directory: Path, max_tokens: int) -> SentenceTransformer:
    """Load a teacher for inference in bfloat16.

    Raises:
        ConfigError: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            "training needs sentence-transformers: pip install 'osa-encoder[train]'"
        ) from error
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher = SentenceTransformer(str(directory), device=device, local_files_only=True)
    teacher.max_seq_length = min(max_tokens, teacher.max_seq_length or max_tokens)
    return teacher.to(torch.bfloat16).eval()


def embed(teacher: SentenceTransformer, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of a teacher, float16 [n, E]."""
    vectors = teacher.encode(
        list(texts),
        batch_size=64,
        convert_to_tensor=True,
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    half: np.ndarray = vectors.float().cpu().numpy().astype(np.float16)
    return half


Embed = Callable[[Sequence[str]], np.ndarray]


class TeacherVectors:
    """Vectors of one teacher by text, in shards of one file a chunk."""

    def __init__(self, directory: Path) -> None:
        """Open what is there; shards that are damaged count as missing."""
        self.directory = directory
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

    def get(self, texts: Sequence[str], embed: Embed, progress: bool = True) -> np.ndarray:
        """The vectors of ``texts`` [n, E], float16; what is not there is computed and kept.

        Args:
            texts: Any texts; repeats are computed once.
            embed: Gives unit vectors of texts.
            progress: Show a bar.
        """
        wanted = digests_of(texts)
        _, first = np.unique(wanted, return_index=True)
        missing = np.sort(first[~np.isin(wanted[first], self._digests)])
        added = []
        with Progress("teacher", "texts", len(missing), enabled=progress) as bar:
            for start in range(0, len(missing), CHUNK):
                rows = missing[start : start + CHUNK]
                vectors = embed([texts[row] for row in rows])
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
    """A digest of every text, as bytes of one width."""
    return np.array(
        [hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()[:DIGEST_BYTES]
         for text in texts],
        dtype=f"S{DIGEST_BYTES}",
    )  # fmt: skip
