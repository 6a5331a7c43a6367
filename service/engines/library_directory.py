"""Checks of a directory that sentence-transformers is to load, by its files alone.

Code that comes with a model never runs, and pickles are never read: such directories are refused
before the library sees them, whatever its own defaults are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from osa.model.common.directories import CONFIG, MODULES, TOKENIZER, WEIGHTS
from osa.model.common.model_files import check_weights, open_file, read_json
from osa.model.errors import CheckpointError
from osa.model.hub.files import INDEX, refuse_adapter

LIBRARY_CONFIG = "config_sentence_transformers.json"
TRANSFORMER, STATIC, POOLING, NORMALIZE = (
    "Transformer",
    "StaticEmbedding",
    "Pooling",
    "Normalize",
)
WEIGHTED = (TRANSFORMER, STATIC, "Dense", "LayerNorm", "WeightedLayerPooling")
"""Modules that have weights."""
RUN = (*WEIGHTED, POOLING, NORMALIZE, "Dropout")
"""Modules that the engine runs."""
VOCABULARIES = (
    TOKENIZER,
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "num_decoder_layers")
SHARED = 64
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HASHED = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What decides about vectors; model cards and copies for other runtimes do not."""


class Part(NamedTuple):
    """One module of a model.

    Attributes:
        kind: Name of its class in sentence-transformers.
        path: Its folder.
    """

    kind: str
    path: Path


class Prompts(NamedTuple):
    """Prompts of a model by name, and the name of the default one."""

    texts: dict[str, str]
    default: str | None


def check_directory(directory: Path) -> list[Part]:
    """The modules of a model, checked: what is missing, or may not run, is refused.

    Args:
        directory: Has ``modules.json``, or only a model of transformers, whose tokens are then
            pooled by their mean, as sentence-transformers does.

    Raises:
        CheckpointError: Code or pickles, missing files, or modules that the engine does not run;
            in one line that says what to do.
    """
    kind = _read(directory / LIBRARY_CONFIG, directory).get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise CheckpointError(
            f"{directory} is a {kind} of sentence-transformers, not an embedding model: serve one "
            "of its class SentenceTransformer"
        )
    parts = list(_parts(directory))
    first = parts[0]
    poolings = [part for part in parts if part.kind == POOLING]
    if first.kind not in (TRANSFORMER, STATIC) or len(poolings) != (first.kind == TRANSFORMER):
        raise CheckpointError(
            f"{directory} has the modules {', '.join(part.kind for part in parts)}: the engine "
            f"runs a {TRANSFORMER} and one {POOLING}, or a {STATIC}, and what follows them"
        )
    for part in parts:
        _check_part(part)
    return parts


def _parts(directory: Path) -> Iterator[Part]:
    """Modules by ``modules.json``, or those that a plain transformers directory gets."""
    if not (directory / MODULES).is_file():
        yield Part(TRANSFORMER, directory)
        yield Part(POOLING, directory)
        return
    try:
        entries = [(str(e["type"]), str(e["path"])) for e in read_json(directory / MODULES)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{directory / MODULES} is not a list of modules with type and path: copy it again"
        ) from error
    if not entries:
        raise CheckpointError(f"{directory / MODULES} names no module: copy it again")
    for name, path in entries:
        kind = name.rpartition(".")[2]
        if not name.startswith("sentence_transformers."):
            raise CheckpointError(
                f"{directory / MODULES} names {name}, code that is not part of "
                "sentence-transformers, and a model's own code is never run here: serve a model "
                "that is made of the library's modules alone"
            )
        if kind not in RUN:
            raise CheckpointError(
                f"{directory / MODULES} names the module {kind}, which this engine does not run: "
                f"it runs {', '.join(RUN)}"
            )
        folder = directory / path
        if "\0" in path or not folder.resolve().is_relative_to(directory.resolve()):
            raise CheckpointError(f"{directory / MODULES} names {path}, outside of the directory")
        yield Part(kind, folder)


def _check_part(part: Part) -> None:
    if part.kind in WEIGHTED:
        _check_weights(part.path)
    if part.kind == POOLING:
        _check_pooling(part.path)
    if part.kind == TRANSFORMER:
        _check_transformer(part.path)
    elif part.kind == STATIC:
        _require(part.path, TOKENIZER)
    elif part.kind == "Dense":
        activation = str(_read(_require(part.path, CONFIG), part.path).get("activation_function"))
        if activation != "None" and not activation.startswith("torch.nn.modules."):
            raise CheckpointError(
                f"{part.path / CONFIG} names the activation {activation}, code that is not "
                "torch's: it is never run here; serve a model with one of torch.nn.modules"
            )


def _check_pooling(folder: Path) -> None:
    """Refuse what depends on the prompt, which is not known any more where ids are pooled."""
    if (folder / CONFIG).is_file() and _read(folder / CONFIG, folder).get(
        "include_prompt"
    ) is False:
        raise CheckpointError(
            f"{folder / CONFIG} leaves the prompt out of the pooling (include_prompt), which this "
            "engine does not do: serve a model that pools all tokens"
        )


def _check_transformer(folder: Path) -> None:
    refuse_adapter(folder)
    config = _read(_require(folder, CONFIG), folder)
    tokenizer = _read(folder / "tokenizer_config.json", folder)
    if tokenizer.get("truncation_side") == "left":
        raise CheckpointError(
            f"{folder} cuts long texts on the left (truncation_side), here they are cut on the "
            "right unless a request says truncation_direction: set truncation_side to right"
        )
    for name, values in ((CONFIG, config), ("tokenizer_config.json", tokenizer)):
        if values.get("auto_map"):
            raise CheckpointError(
                f"{folder / name} asks for code of the model's own (auto_map), which is never run "
                f"here: if transformers itself has {config.get('model_type', 'the architecture')}, "
                "delete auto_map from the file, otherwise serve another model"
            )
    _check_sizes(folder, config)
    heads = [str(name) for name in config.get("architectures") or ()]
    if heads and heads[0].endswith("ForSequenceClassification"):
        raise CheckpointError(
            f"{folder} is a classifier ({heads[0]}), not an embedding model: this engine serves "
            "embedding models"
        )
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise CheckpointError(f"{folder} misses {TOKENIZER}: copy the directory again, whole")


def _check_sizes(folder: Path, config: dict[str, Any]) -> None:
    """Refuse files that are too large, and more layers than tensors, before the library sees them.

    Layers may share their tensors (ALBERT); none of these has ``SHARED`` layers.
    """
    tensors = 0
    for pattern in HASHED:
        for file in folder.glob(pattern):
            with _opened(file) as opened:
                if pattern == "*.safetensors":
                    tensors += check_weights(file, opened, os.fstat(opened.fileno()).st_size)
    for name in LAYERS:
        layers = config.get(name)
        if isinstance(layers, int | float) and not layers <= max(tensors, SHARED):
            raise CheckpointError(
                f"{folder / CONFIG} says {name} {layers}, but the weights have {tensors} tensors: "
                "copy both again"
            )


def _check_weights(folder: Path) -> None:
    """Refuse a folder without safetensors, or with some of its shards missing."""
    if (folder / INDEX).is_file():
        shards = _read(folder / INDEX, folder).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{folder / INDEX} has no weight_map: copy {folder} again")
        for name in sorted(set(map(str, shards.values()))):
            if Path(name).name != name:
                raise CheckpointError(f"{folder / INDEX} names {name}, outside of its folder")
            _require(folder, name)
        return
    if (folder / WEIGHTS).is_file():
        return
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights in {pickles[0]}, a pickle, which can run code as it is "
            'read, and is never read here: convert it where you trust it, by python -c "from '
            "sentence_transformers import SentenceTransformer; SentenceTransformer('IN')"
            ".save('OUT')\", and serve OUT"
        )
    _require(folder, WEIGHTS)


def _require(folder: Path, name: str) -> Path:
    """The file of this name.

    Raises:
        CheckpointError: It is missing.
    """
    if not (folder / name).is_file():
        raise CheckpointError(f"{folder} misses {name}: copy the directory again, whole")
    return folder / name


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BufferedReader]:
    """``open_file``, whose refusals become ``CheckpointError``."""
    try:
        with open_file(file) as opened:
            yield opened
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error


def _read(file: Path, directory: Path) -> dict[str, Any]:
    """The JSON object of a file; empty where there is no such file."""
    if not os.path.lexists(file):
        return {}
    try:
        values = read_json(file)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: copy {directory} again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} is not a JSON object: copy {directory} again")
    return values


def read_prompts(directory: Path) -> Prompts:
    """Prompts that the model brings along, but for empty ones.

    Raises:
        CheckpointError: They are not texts by name, or the default is none of them.
    """
    values = _read(directory / LIBRARY_CONFIG, directory)
    texts = values.get("prompts") or {}
    default = values.get("default_prompt_name")
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CheckpointError(f"{directory / LIBRARY_CONFIG}: prompts must be texts by name")
    if default is not None and (not isinstance(default, str) or default not in texts):
        raise CheckpointError(
            f"{directory / LIBRARY_CONFIG}: default_prompt_name is {default!r}, but the prompts "
            f"are {', '.join(texts) or 'none'}"
        )
    texts = {name: text for name, text in texts.items() if text}
    return Prompts(texts, default if default in texts else None)


def directory_sha256(directory: Path, parts: Sequence[Part]) -> str:
    """Identity of a model: SHA-256 of names and contents of its configuration and weights."""
    files = {
        file.resolve(): file.relative_to(directory).as_posix()
        for folder in {directory, *(part.path for part in parts)}
        for pattern in HASHED
        for file in folder.glob(pattern)
        if file.is_file()
    }
    total = hashlib.sha256()
    for file, name in sorted(files.items(), key=lambda entry: entry[1]):
        with _opened(file) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{digest}  {name}\n".encode())
    return total.hexdigest()
