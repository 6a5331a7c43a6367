"""The source's results on the parity grid in float64, cached in the user's cache directory.

The name of an entry is a digest of everything that determines it: weights, configuration, layout,
torch, and the code of the model and of the grid. It starts with its own sha256 and is written
atomically; a damaged entry is computed again. The least recently used entries are removed first.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import hashlib
import itertools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from osa.export import graph
from osa.export.graph import EmbeddingProgram, Layout
from osa.export.manifest_values import REFERENCE
from osa.export.parity import cases, comparison
from osa.export.parity.cases import Case, grid
from osa.export.parity.comparison import PARTS, TOKEN_ROWS_UP_TO
from osa.model import EmbeddingModel
from osa.model.common.scratch import user_cache
from osa.model.common.threads import threads

FOLDER = "parity-references"
MAX_ENTRIES = 16
MAX_BYTES = 128 << 20
"""Largest total size of the cache [bytes]."""
DIGEST_BYTES = 32
Progress = Callable[[str], None]


def make_reference(
    model: EmbeddingModel, layout: Layout, directory: Path, progress: Progress = lambda step: None
) -> None:
    """Write the grid and the results of ``model`` in float64 to ``directory``.

    Args:
        model: The source.
        layout: Layout of the grid.
        directory: Directory of the artifact.
        progress: Called with a line for every case, or for a cached result.
    """
    folder = _folder()
    entry = None if folder is None else folder / f"{_identity(model, layout)}.safetensors"
    content = None if entry is None else _read(entry)
    if content is not None:
        progress(f"float64 reference: taken from {entry}")
    else:
        content = _compute(model, layout, progress)
        if entry is not None:
            _remember(entry, content)
    (directory / REFERENCE).write_bytes(content)


def _compute(model: EmbeddingModel, layout: Layout, progress: Progress) -> bytes:
    precise = EmbeddingProgram(copy.deepcopy(model).cpu().double(), layout)
    cases = list(grid(model.config, layout))
    longest_first = sorted(range(len(cases)), key=lambda place: -cases[place].inputs.size)
    turn = threading.Lock()

    def answer(begun: int, place: int) -> tuple[int, dict[str, np.ndarray]]:
        with turn:
            progress(f"float64 reference: case {begun} of {len(cases)}: {cases[place].name}")
        return place, _answer(precise, cases[place])

    # One thread per case, rather than several per product: short products do not use them.
    with (
        _single_threaded_products(),
        concurrent.futures.ThreadPoolExecutor(threads().count) as pool,
    ):
        answers = dict(pool.map(answer, itertools.count(1), longest_first))
    tensors = {
        f"{place}.{part}": value
        for place in range(len(cases))
        for part, value in answers[place].items()
    }
    return save(tensors, {"cases": json.dumps([case.name for case in cases])})


def _answer(precise: EmbeddingProgram, case: Case) -> dict[str, np.ndarray]:
    inputs = torch.from_numpy(case.inputs)
    if inputs.is_floating_point():
        inputs = inputs.double()
    with torch.inference_mode():
        embeddings, norms, tokens = precise(inputs, torch.from_numpy(case.places))
    parts = [case.inputs, case.places, embeddings.numpy(), norms.numpy()]
    if case.inputs.shape[0] <= TOKEN_ROWS_UP_TO and precise.layout == "packed":
        parts.append(tokens.numpy())
    return dict(zip(PARTS, parts, strict=False))


@contextlib.contextmanager
def _single_threaded_products() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # applies to threads started from here on too
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _identity(model: EmbeddingModel, layout: Layout) -> str:
    """Digest of everything that determines the reference of a model.

    It covers the weights in memory, which may differ from those of a checkpoint.
    """
    digest = hashlib.sha256()
    for part in (layout, torch.__version__, np.__version__, model.config.to_json()):
        digest.update(f"{len(part)} {part}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    model_code = Path(sys.modules["osa.model"].__file__ or "").parent
    sources = [
        source
        for folder in (".", "functional", "kernels", "layers", "layers/mixers")
        for source in (model_code / folder).glob("*.py")
    ]
    sources += [Path(module.__file__ or "") for module in (cases, comparison, graph)]
    sources.append(Path(__file__))
    for source in sorted(sources):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


def _folder() -> Path | None:
    cache = user_cache()
    return None if cache is None else cache / FOLDER


def _read(entry: Path) -> bytes | None:
    """The content of an entry; None where there is none, or a damaged one."""
    try:
        stored = entry.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # marks it as recently used
    digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def _remember(entry: Path, content: bytes) -> None:
    """Store an entry, if the cache is writable; then remove old entries beyond the limits."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=entry.parent, prefix=".", delete=False) as staged:
            try:
                staged.write(hashlib.sha256(content).digest() + content)
                staged.close()
                Path(staged.name).replace(entry)
            except OSError:
                Path(staged.name).unlink(missing_ok=True)
                raise
        _shrink(entry.parent)
    except OSError:
        return  # a full disk or a read-only home: the cache is optional


def _shrink(folder: Path) -> None:
    found = [(file.stat(), file) for file in folder.iterdir() if file.is_file()]
    found.sort(key=lambda pair: pair[0].st_mtime_ns, reverse=True)
    total = 0
    for place, (status, file) in enumerate(found):
        total += status.st_size
        if place and (place >= MAX_ENTRIES or total > MAX_BYTES):
            file.unlink(missing_ok=True)
