"""Teachers: sentence encoders whose vectors a student learns to give.

A teacher runs once over a corpus; its vectors are kept on disk (float16) under the digest of
teacher and corpus, so that every later run, resumed or with another student, reads them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from osa.model.errors import ConfigError
from osa.model.training.corpus import Corpus

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHUNK = 4096
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


def teacher_vectors(
    directory: Path, corpus: Corpus, cache: Path, max_tokens: int, progress: bool = True
) -> np.ndarray:
    """The teacher's vectors of a corpus [n, E], from the cache as far as it goes.

    An interrupted run goes on where it stopped, a chunk of texts at a time.

    Raises:
        ConfigError: The teacher cannot be loaded.
    """
    identity = f"{teacher_digest(directory)} {corpus.sha256} {max_tokens}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    vectors_file, state_file = cache / f"{key}.npy", cache / f"{key}.json"
    total, done = len(corpus.texts), 0
    if vectors_file.exists() and state_file.exists():
        done = int(json.loads(state_file.read_text())["done"])
    if done == total:
        finished: np.ndarray = np.load(vectors_file, mmap_mode="r")
        return finished
    teacher = load_teacher(directory, max_tokens)
    cache.mkdir(parents=True, exist_ok=True)
    width = len(embed(teacher, corpus.texts[:1])[0])
    mode = "r+" if done else "w+"
    vectors = np.lib.format.open_memmap(vectors_file, mode, np.float16, (total, width))
    with tqdm(total=total, initial=done, desc="teacher", unit="text", disable=not progress) as bar:
        for start in range(done, total, CHUNK):
            chunk = corpus.texts[start : start + CHUNK]
            vectors[start : start + len(chunk)] = embed(teacher, chunk)
            vectors.flush()
            partial = state_file.with_suffix(".partial")
            partial.write_text(json.dumps({"done": start + len(chunk)}))
            partial.replace(state_file)
            bar.update(len(chunk))
    return vectors
