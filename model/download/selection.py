"""Which files of a repository are a model, by their names alone.

Weights in safetensors, descriptions in JSON, tokenizers; of our own checkpoints and ONNX artifacts
everything that they list. Never code, pickles or compiled programs: what is not downloaded cannot
run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from osa.model.common.directories import ADAPTER, ARTIFACT, CONFIG, MANIFEST, TOKENIZER, WEIGHTS

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
PROGRAMS = (".py", ".pt2", ".so", ".dll", ".dylib", ".sh")
OTHERS = (".h5", ".msgpack", ".ot", ".gguf", ".tflite", ".npz")
NEVER = (*PICKLES, *PROGRAMS, *OTHERS)
"""Endings of files that are never taken."""
DESCRIPTIONS = (
    *(CONFIG, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json"),
    "router_config.json",
)
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "*.model")
"""Taken where there is no ``tokenizer.json``."""
INDEX = "model.safetensors.index.json"
SHARD = "model-*-of-*.safetensors"
ONNX_GRAPH = "model.onnx"
_MODULE = re.compile(r"(\w+_)?\d+_\w+")
"""Directories of sentence-transformers' modules, such as ``1_Pooling``."""


def choose_files(listed: Iterable[str]) -> list[str]:
    """The files to take, sorted.

    Args:
        listed: Paths of all files, relative to the repository, with ``/``.
    """
    folders = _by_folder(listed)
    chosen: list[str] = []
    for folder, names in folders.items():
        if is_own(names):
            taken = names
        elif folder == "":
            taken = _matching(names, DESCRIPTIONS) | _weights(names)
            if TOKENIZER not in names:
                taken |= _matching(names, VOCABULARIES)
        elif _MODULE.fullmatch(folder):
            taken = _matching(names, ("*.json", "*.txt", "*.model")) | _weights(names)
        else:
            continue
        chosen += [
            str(PurePosixPath(folder) / name) for name in taken if not name.lower().endswith(NEVER)
        ]
    return sorted(chosen)


def find_problem(listed: Iterable[str]) -> str | None:
    """Why these files are no model that can be taken, and what to do; None where they are one."""
    folders = _by_folder(listed)
    compiled = [
        folder for folder, names in folders.items() if ARTIFACT in names and not is_own(names)
    ]
    if any(is_own(names) for names in folders.values()):
        return None
    if ADAPTER in folders.get("", set()):
        return (
            f"holds an adapter ({ADAPTER}), which is not read: merge it where you trust it, "
            "merge_and_unload() of peft, and serve the whole model's directory"
        )
    if compiled:
        return (
            "holds an artifact of compiled code, which is never run from the hub: export the "
            "checkpoint that it was made from ('osa export')"
        )
    modules = {folder: names for folder, names in folders.items() if _MODULE.fullmatch(folder)}
    for folder, names in {"": folders.get("", set()), **modules}.items():
        pickles = sorted(name for name in names if name.lower().endswith(PICKLES))
        if pickles and not _weights(names) and (folder != "" or not _encoders(modules)):
            return (
                f"holds weights as pickle alone ({PurePosixPath(folder) / pickles[0]}), which can "
                "run code and is never read: convert them once where you trust them, with "
                "sentence-transformers' save_pretrained(DIR), and serve DIR"
            )
    if not _weights(folders.get("", set())) and not _encoders(modules):
        return (
            "holds no weights in safetensors: this server reads no other form; name a repository "
            f"that has {WEIGHTS}"
        )
    return None


def is_own(names: Collection[str]) -> bool:
    """Whether a directory of these files is a checkpoint or an ONNX artifact of this project."""
    return MANIFEST in names or (ARTIFACT in names and ONNX_GRAPH in names)


def _encoders(modules: dict[str, set[str]]) -> bool:
    """Whether a module has a transformer's weights: the root needs none then."""
    return any(_weights(names) and CONFIG in names for names in modules.values())


def _weights(names: set[str]) -> set[str]:
    """The whole weights in one file, else those that an index lists, else all there are."""
    if WEIGHTS in names:
        return {WEIGHTS}
    if INDEX in names:
        return {INDEX} | _matching(names, (SHARD,))
    return _matching(names, ("*.safetensors",))


def _matching(names: set[str], patterns: Iterable[str]) -> set[str]:
    return {name for name in names for pattern in patterns if fnmatchcase(name, pattern)}


def _by_folder(listed: Iterable[str]) -> dict[str, set[str]]:
    """Names of files by their folder: the root (``""``) and those one level below; none hidden."""
    folders: dict[str, set[str]] = {}
    for path in listed:
        folder, _, name = path.rpartition("/")
        if "/" not in folder and not path.startswith((".", "/")) and not name.startswith("."):
            folders.setdefault(folder, set()).add(name)
    return folders
