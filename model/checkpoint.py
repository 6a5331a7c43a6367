"""Checkpoints: a directory of verified files, without pickle.

    config.json          EncoderConfig
    model.safetensors    the weights
    tokenizer.json       for token models
    prompts.json         texts that the model wants before inputs, if any
    manifest.json        format version; size and sha256 of every other file

Writing is atomic: the directory is replaced completely, or not at all. Loading is strict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from osa.model.calibration import CALIBRATION, Calibration
from osa.model.common.directories import CONFIG as CONFIG
from osa.model.common.directories import MANIFEST as MANIFEST
from osa.model.common.directories import TOKENIZER as TOKENIZER
from osa.model.common.directories import WEIGHTS as WEIGHTS
from osa.model.common.directories import atomic_directory as atomic_directory
from osa.model.common.directories import check_replaceable as check_replaceable
from osa.model.common.directories import describe_path
from osa.model.common.model_files import (
    MOST_FILES,
    AlteredFileError,
    check_listed,
    memory,
    parse_json,
    read_file,
    read_listed,
)
from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError, InputError
from osa.model.prompts import PROMPTS, prompts_from_json, prompts_to_json
from osa.model.stored_weights import STORED_DTYPES, from_stored, to_stored
from osa.model.tokenization import TextTokenizer

FORMAT = "osa-encoder"
KNOWN = frozenset({CONFIG, WEIGHTS, TOKENIZER, CALIBRATION, PROMPTS})
"""Names of the files that are used; others are only compared with the manifest."""
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint directory.

    Attributes:
        config: Shape and rules of the encoder.
        weights: Tensors by parameter name.
        tokenizer: The tokenizer of a token model, or None.
        sha256: Digest of the manifest: the identity of the model.
        calibration: Ranges of its vectors, or None. Not written by ``save_checkpoint``.
        prompts: Texts by name that the model wants before inputs.
        default_prompt_name: Of inputs for which none is named; None for no prompt.
    """

    config: EncoderConfig
    weights: dict[str, Tensor]
    tokenizer: TextTokenizer | None
    sha256: str = ""
    calibration: Calibration | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None


def write_manifest(directory: Path) -> None:
    """Record size and sha256 of every file of ``directory`` in its manifest."""
    files = {
        file.name: {
            "size": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(directory.iterdir())
        if file.name != MANIFEST
    }
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def save_checkpoint(
    directory: Path,
    checkpoint: Checkpoint,
    dtype: torch.dtype | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> None:
    """Write a checkpoint atomically, replacing what was there.

    Args:
        directory: Target.
        checkpoint: What to write.
        dtype: Type that weights are stored in, one of ``WEIGHT_TYPES``; None keeps theirs.
        extra: Further files, by name; covered by the manifest too.

    Raises:
        CheckpointError: What could not be loaded again, or a directory with other files.
    """
    weights = to_stored(checkpoint.weights, dtype)
    if checkpoint.config.vocab_size is not None and checkpoint.tokenizer is None:
        raise CheckpointError("a model of token ids cannot be saved without its tokenizer")
    for name in extra or {}:
        if Path(name).name != name or name in (CONFIG, WEIGHTS, TOKENIZER, PROMPTS, MANIFEST):
            raise CheckpointError(f"an extra file cannot be named {name!r}")
    with atomic_directory(directory, MANIFEST) as staging:
        (staging / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
        (staging / WEIGHTS).write_bytes(save_tensors(weights))
        if checkpoint.prompts:
            prompts = prompts_to_json(checkpoint.prompts, checkpoint.default_prompt_name)
            (staging / PROMPTS).write_text(prompts, encoding="utf-8")
        if checkpoint.tokenizer is not None:
            (staging / TOKENIZER).write_text(checkpoint.tokenizer.to_json(), encoding="utf-8")
        for name, content in (extra or {}).items():
            (staging / name).write_bytes(content)
        write_manifest(staging)


def read_verified(directory: Path) -> tuple[dict[str, bytes], str]:
    """Return the files of a checkpoint by name, and the manifest's sha256.

    Every file that the manifest lists is compared with it; those of other names are not kept.

    Raises:
        CheckpointError: Naming the file that is missing, truncated or changed.
    """
    if not directory.is_dir():
        raise CheckpointError(describe_path(directory))
    path = directory / MANIFEST
    if not path.exists():
        raise CheckpointError(f"cannot read {path}: {describe_path(directory)}")
    try:
        raw = read_file(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    contents = {}
    for name, (size, digest) in _parse_manifest(raw, path).items():
        file = directory / name
        try:
            if name in KNOWN:
                contents[name] = read_listed(file, size, digest)
            else:
                check_listed(file, size, digest)
        except AlteredFileError as error:
            raise CheckpointError(str(error)) from error
        except OSError as error:
            raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    return contents, hashlib.sha256(raw).hexdigest()


def _parse_manifest(raw: bytes, path: Path) -> dict[str, tuple[int, str]]:
    """Size [bytes] and sha256 by name of the files that a manifest lists.

    Raises:
        CheckpointError: It is none, or of another version, or lists what is no checkpoint's.
    """
    try:
        manifest = parse_json(raw)
        version = (manifest["format"], manifest["format_version"])
        listed = {
            str(name): (int(entry["size"]), str(entry["sha256"]))
            for name, entry in manifest["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a manifest: {error!r}") from error
    if version != (FORMAT, FORMAT_VERSION):
        raise CheckpointError(
            f"{path} is of format {version[0]} {version[1]}, "
            f"this version reads {FORMAT} {FORMAT_VERSION}"
        )
    if len(listed) > MOST_FILES:
        raise CheckpointError(f"{path} lists {len(listed)} files, allowed are {MOST_FILES}")
    for name, (size, _) in listed.items():
        if Path(name).name != name or not name.isprintable():
            raise CheckpointError(f"{path}: {name!r} is not a file name")
        if size < 0:
            raise CheckpointError(f"{path}: {name} must have a size in bytes, got {size}")
    total = sum(size for size, _ in listed.values())
    if total > memory():
        raise CheckpointError(
            f"{path} lists files of {total} bytes in all, more than the memory here"
        )
    return listed


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: Naming the file, field or tensor at fault.
    """
    contents, digest = read_verified(directory)
    for name in (CONFIG, WEIGHTS):
        if name not in contents:
            raise CheckpointError(f"{directory / MANIFEST} does not list {name}")
    try:
        config = EncoderConfig.from_json(contents[CONFIG].decode("utf-8"))
    except (ConfigError, UnicodeDecodeError, OverflowError) as error:
        raise CheckpointError(f"{directory / CONFIG}: {error}") from error
    try:
        stored = load_tensors(contents[WEIGHTS])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{directory / WEIGHTS} is not safetensors: {error}") from error
    weights = from_stored(stored, directory / WEIGHTS)
    _check_layers(config, weights, directory)
    tokenizer = None
    if TOKENIZER in contents:
        try:
            tokenizer = TextTokenizer.from_json(contents[TOKENIZER], config.vocab_size)
        except InputError as error:
            raise CheckpointError(f"{directory / TOKENIZER} {error}") from error
        if config.vocab_size is not None and tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"{directory / TOKENIZER} has {tokenizer.vocab_size} ids, "
                f"the model embeds {config.vocab_size}"
            )
        check_room(config.max_seq_len, tokenizer, directory / CONFIG)
    elif config.vocab_size is not None:
        raise CheckpointError(f"{directory / MANIFEST} does not list {TOKENIZER}")
    calibration = None
    if CALIBRATION in contents:
        try:
            calibration = Calibration.from_json(contents[CALIBRATION].decode("utf-8"))
        except (ConfigError, UnicodeDecodeError, OverflowError) as error:
            raise CheckpointError(f"{directory / CALIBRATION}: {error}") from error
    prompts: dict[str, str] = {}
    default = None
    if PROMPTS in contents:
        prompts, default = prompts_from_json(contents[PROMPTS], directory / PROMPTS)
    return Checkpoint(config, weights, tokenizer, digest, calibration, prompts, default)


def check_room(max_seq_len: int, tokenizer: TextTokenizer, source: Path) -> None:
    """Refuse a model that could not read a single token of a text.

    Raises:
        CheckpointError: Naming the file, the field and the least length.
    """
    least = tokenizer.num_special_tokens + 1
    if max_seq_len < least:
        raise CheckpointError(
            f"{source}: max_seq_len must be at least {least}, a token beside "
            f"{tokenizer.num_special_tokens} special ones, got {max_seq_len}"
        )


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load ``weights`` into ``module`` in float32; names, shapes and types must match.

    Args:
        module: May be on the ``meta`` device: nothing is allocated before everything is checked.
        weights: Tensors by name, every value finite.
        source: Directory, for messages.

    Raises:
        CheckpointError: Naming the tensor at fault.
    """
    wanted = module.state_dict()
    for name in sorted(set(wanted) ^ set(weights)):
        state = "misses tensor" if name in wanted else "holds the unknown tensor"
        raise CheckpointError(f"{source / WEIGHTS} {state} {name}")
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{source / WEIGHTS}: {name} has shape {tuple(tensor.shape)}, "
                f"the configuration asks for {tuple(wanted[name].shape)}"
            )
        if tensor.dtype not in STORED_DTYPES:
            allowed = ", ".join(map(str, STORED_DTYPES))
            raise CheckpointError(
                f"{source / WEIGHTS}: {name} is {tensor.dtype}, allowed are {allowed}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{source / WEIGHTS}: {name} holds a value that is not finite")
    complete = {name: tensor.to(torch.float32) for name, tensor in weights.items()}
    module.load_state_dict(complete, strict=True, assign=True)


def _check_layers(config: EncoderConfig, weights: Mapping[str, Tensor], source: Path) -> None:
    """Refuse more layers than the weights have tensors, before any is built."""
    if config.num_layers > len(weights):
        raise CheckpointError(
            f"{source / CONFIG} says num_layers {config.num_layers}, but {WEIGHTS} has "
            f"{len(weights)} tensors in all: copy both again"
        )
