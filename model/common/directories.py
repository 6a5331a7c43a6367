"""The kind of a directory by the names of its files, and its exchange, without importing torch.

manifest.json        a checkpoint (``osa.model.checkpoint``)
artifact.json        an artifact (``osa.export.manifest``)
modules.json, or a config.json with a model_type
                     a model of transformers or sentence-transformers (``osa.model.hub``)
none of these        a collection, where directories in it are one of these; else something else
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from osa.model.common.hub_reference import PACKAGED, PREFIX, is_reference
from osa.model.common.model_files import read_json
from osa.model.errors import CheckpointError, ConfigError

CONFIG, WEIGHTS, TOKENIZER, MANIFEST = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "manifest.json",
)
ARTIFACT = "artifact.json"
ADAPTER = "adapter_config.json"
PRETRAINED = Path(__file__).parents[1] / "pretrained" / "default"
"""The packaged model that is the default."""
FOREIGN_WEIGHTS = ("pytorch_model.bin", "model.safetensors", "model.safetensors.index.json")
WEIGHT_TYPES = ("float16", "bfloat16", "float32", "int8")
"""What weights can be stored in; ``int8`` with a scale for each row of a matrix."""
MODULES = "modules.json"
DirectoryKind = Literal["checkpoint", "artifact", "transformer", "collection", "other"]
MODEL_KINDS: tuple[DirectoryKind, ...] = ("checkpoint", "transformer")
"""What ``EmbeddingModel.from_pretrained`` loads."""


def packaged_model(path: Path) -> Path:
    """The directory of a ``packaged:NAME``; another path is given back.

    Raises:
        ConfigError: There is no packaged model of this name.
    """
    if not str(path).startswith(PACKAGED):
        return path
    name, there = str(path).removeprefix(PACKAGED), PRETRAINED.parent
    names = sorted(item.name for item in there.iterdir() if (item / MANIFEST).is_file())
    if name not in names:
        known = ", ".join(PACKAGED + name for name in names)
        raise ConfigError(f"packaged models are {known}; got {path}")
    return there / name


def kind_of(directory: Path) -> DirectoryKind:
    """The kind of ``directory``, by file names alone."""
    own = _own_kind(directory)
    if own != "other" or not directory.is_dir():
        return own
    members = (member for member in directory.iterdir() if member.is_dir())
    return "collection" if any(_own_kind(member) != "other" for member in members) else "other"


def _own_kind(directory: Path) -> DirectoryKind:
    try:
        if (directory / MANIFEST).is_file():
            return "checkpoint"
        if (directory / ARTIFACT).is_file():
            return "artifact"
        return "transformer" if _is_transformer(directory) else "other"
    except OSError:  # not readable, such as lost+found of a volume
        return "other"


def _is_transformer(directory: Path) -> bool:
    """Whether a directory is a model of transformers or sentence-transformers."""
    if (directory / MODULES).is_file():
        return True
    return isinstance(_read_object(directory / CONFIG).get("model_type"), str)


def describe_path(directory: Path) -> str:
    """What ``directory`` is and what can be done with it, for error messages."""
    if directory.exists() and not directory.is_dir():
        return f"{directory} is a file, not a directory"
    if str(directory).startswith(PACKAGED):
        return f"a directory is needed here, got {directory}, which is the name of a model"
    if is_reference(directory):
        return f"a local directory is needed here: 'osa download {directory}' makes one"
    if not directory.exists():
        hub = len(directory.parts) == 2 and not directory.parent.exists()
        hint = f"; {PREFIX}{directory} downloads it from the hub" if hub else ""
        return f"{directory} is not a directory (nothing there{hint})"
    kind = kind_of(directory)
    if kind == "checkpoint":
        return f"{directory} is a checkpoint: 'osa export' makes an artifact of it"
    if kind == "transformer":
        return (
            f"{directory} is a model of transformers or sentence-transformers: serve, embed, "
            "export, verify, inspect and train take it"
        )
    if kind == "artifact":
        return (
            f"{directory} is an artifact: serve, embed, verify and inspect take it, all else the "
            "checkpoint that it was made from"
        )
    if kind == "collection":
        members = sorted(item.name for item in directory.iterdir() if _own_kind(item) != "other")
        return f"{directory} holds several models ({', '.join(members)}): name one of them"
    if foreign := _foreign(directory):
        return (
            f"{directory} is {foreign}: this version runs its own checkpoints ({MANIFEST}), "
            f"artifacts made of them ({ARTIFACT}), and directories of transformers, whose "
            f"{CONFIG} has a model_type"
        )
    if (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file():
        return f"{directory} misses {MANIFEST}, which a checkpoint has: copy it again, whole"
    return (
        f"{directory} holds neither a checkpoint ({MANIFEST}) nor an artifact ({ARTIFACT}), nor "
        "directories of them"
    )


def _foreign(directory: Path) -> str | None:
    """Description of a model of another library; None where it is none."""
    values = _read_object(directory / CONFIG)
    architectures = values.get("architectures")
    if isinstance(architectures, list) and architectures:
        return f"a model of transformers ({CONFIG} names {architectures[0]})"
    if values or not any((directory / name).is_file() for name in FOREIGN_WEIGHTS):
        return None
    return "a directory of weights without the description of an encoder"


def _read_object(file: Path) -> dict[str, Any]:
    try:
        values = read_json(file)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def check_output(output: Path, marker: str, force: bool, otherwise: str = "") -> None:
    """Refuse an output directory that would replace something, before the work begins.

    Args:
        output: The directory.
        marker: Name of a file that every directory of this kind has; others are never replaced.
        force: Whether a directory of this kind may be replaced.
        otherwise: An alternative, for the message.

    Raises:
        ConfigError: What is there, and what to do.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file, it must be a directory")
    check_parent(output)
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / marker).is_file():
        raise ConfigError(
            f"--output {output} holds other files (no {marker}): it is not replaced; name another "
            "directory"
        )
    if not force:
        raise ConfigError(
            f"--output {output} exists: pass --force to replace it, or name another{otherwise}"
        )


def check_parent(output: Path) -> None:
    """Refuse a path that cannot be written, before the work begins.

    Raises:
        ConfigError: The parent that is not a directory, or not writable.
    """
    parent = next(place for place in output.resolve().parents if place.exists())
    if not parent.is_dir():
        raise ConfigError(f"cannot write {output}: {parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write {output}: {parent} is not writable")


def check_file(file: Path) -> None:
    """Refuse a path that is not a regular file.

    Raises:
        ConfigError: Naming the path.
    """
    if not file.is_file():
        state = "is not a regular file" if file.exists() else "does not exist"
        raise ConfigError(f"cannot read {file}: it {state}")


@contextlib.contextmanager
def atomic_directory(path: Path, marker: str) -> Iterator[Path]:
    """A temporary directory that replaces ``path`` when the block ends without an error.

    Args:
        path: Target; an existing directory is replaced only if it is empty or has ``marker``.
        marker: Name of a file that every directory of this kind has.

    Raises:
        CheckpointError: ``path`` has other files; it is not changed. Or something else has taken
            its place meanwhile: where the old directory is.
    """
    path = path.resolve()
    check_replaceable(path, marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    staging.chmod(0o755)
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        _exchange(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _exchange(new: Path, path: Path) -> None:
    """Put a directory at ``path``; what was there goes only once the new one has its place.

    Raises:
        CheckpointError: It could neither be replaced nor put back; where it is.
    """
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    old = retired / "old"
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    except BaseException as error:
        if old.exists():
            try:
                os.replace(old, path)
            except OSError:
                raise CheckpointError(
                    f"{path} was not replaced ({error}): something else has taken its place; what "
                    f"was there before is in {old}"
                ) from error
        with contextlib.suppress(OSError):
            retired.rmdir()
        raise
    shutil.rmtree(retired, ignore_errors=True)


def check_replaceable(path: Path, marker: str) -> None:
    """Refuse to replace a file, or a directory with other files and no ``marker``.

    Raises:
        CheckpointError: ``path`` is not replaceable.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / marker).is_file():
        raise CheckpointError(f"{path} holds other files (no {marker}): it is not replaced")
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path} is not a directory")
