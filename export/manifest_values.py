"""The values of an artifact's manifest, each checked when it is read, wherever it comes from."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osa.export.errors import ArtifactError
from osa.export.formats import DTYPES, FORMATS
from osa.export.layouts import LAYOUTS, Layout, TensorSpec
from osa.model.common.directories import ARTIFACT, CONFIG
from osa.model.common.field_types import check_known
from osa.model.common.model_files import MIB, MOST_FILES, parse_json
from osa.model.errors import ConfigError

FORMAT = "osa-artifact"
FORMAT_VERSION = 1
PARITY, REFERENCE = "parity.json", "reference.safetensors"
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 0.05}
"""Largest difference of any entry of a unit vector from the source's in float64."""
MANIFEST_LIMIT = MIB
"""Largest manifest [bytes]."""
LONGEST_NAME = 100
"""Longest name of a tensor, a size or a file [characters]."""
MOST = {"min_sequences": 64, "min_tokens": 64, "max_seq_len": 1 << 30}
"""Largest counts: graphs need one or two dummies at most."""
LARGEST_FILE = 1 << 42
"""Largest file [bytes]."""
TENSOR_TYPES = ("int64", "int32", "float32", "float16")
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """Description of an artifact.

    Attributes:
        kind: Name of the format, in ``FORMATS``.
        layout: Layout of its inputs.
        dtype: Storage type of its weights. ONNX computes in float32, int8 in integers; aoti and
            torch-export compute in this type.
        device: Type of device that it runs on; ``any`` where the runtime decides.
        inputs: Inputs in order.
        outputs: Outputs in order.
        min_sequences: Least number of sequences in a call.
        min_tokens: Least number of tokens in a call.
        max_seq_len: Longest sequence [tokens].
        tolerance: Largest difference of an entry of a unit vector from the source in float64.
        source_sha256: Identity of the checkpoint that it was made from.
        versions: Versions of the packages that made it, and facts of the processor.
        files: Size [bytes] and sha256 of every other file.
    """

    kind: str
    layout: Layout
    dtype: str
    device: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    min_sequences: int
    min_tokens: int
    max_seq_len: int
    tolerance: float
    source_sha256: str
    versions: dict[str, str]
    files: dict[str, tuple[int, str]]

    def __post_init__(self) -> None:
        """Refuse values that cannot be; see ``parse_manifest``."""
        _check_values(self)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``artifact.json`` as plain values."""
        values = dataclasses.asdict(self)
        values["files"] = {
            name: {"size": size, "sha256": digest} for name, (size, digest) in self.files.items()
        }
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **values}

    def to_json(self) -> str:
        """``to_dict`` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)


def parse_manifest(raw: bytes, path: Path) -> Manifest:
    """The manifest in ``artifact.json``.

    Args:
        raw: Its content.
        path: Of the file, for messages.

    Raises:
        ArtifactError: The field at fault, what it holds and what is allowed.
    """
    try:
        values = parse_json(raw)
        version = (values.pop("format"), values.pop("format_version"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not an artifact's manifest: {error!r:.200}") from error
    if version[0] != FORMAT or not _is_count(version[1]):
        raise ArtifactError(f"{path} is of format {_shown(version[0])}, expected {FORMAT!r}")
    if version[1] > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} is of format version {_shown(version[1])}, this release reads up to "
            f"{FORMAT_VERSION}: install a newer osa-encoder"
        )
    try:
        missing = {field.name for field in dataclasses.fields(Manifest)} - set(values)
        if missing:
            raise ConfigError(f"{min(missing)} is missing")
        check_known(Manifest, values)
        return Manifest(
            **{
                **values,
                "inputs": _specs("inputs", values["inputs"]),
                "outputs": _specs("outputs", values["outputs"]),
                "files": _files(values["files"]),
            }
        )
    except ConfigError as error:
        raise ArtifactError(f"{path} is not an artifact's manifest: {error}") from error


def check_manifest(manifest: Manifest, path: Path, proven: bool = True) -> None:
    """Refuse a manifest that does not list the files that every artifact has.

    Args:
        manifest: The manifest.
        path: Of its file, for messages.
        proven: Whether it must have a reference to prove it by.

    Raises:
        ArtifactError: Naming them.
    """
    needed = {FORMATS[manifest.kind].graph, CONFIG} | ({REFERENCE} if proven else set())
    missing = needed - set(manifest.files)
    if missing:
        raise ArtifactError(f"{path} does not list {', '.join(sorted(missing))}")


def _check_values(manifest: Manifest) -> None:
    """Refuse what cannot be.

    Raises:
        ConfigError: The field, its value and what is allowed.
    """
    allowed: Mapping[str, tuple[str, ...]] = {
        "kind": tuple(FORMATS),
        "layout": LAYOUTS,
        "dtype": DTYPES,
        "device": ("any", "cpu", "cuda"),
    }
    for name, choices in allowed.items():
        value = getattr(manifest, name)
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {_shown(value)}")
    made = FORMATS[manifest.kind]
    if manifest.dtype not in made.dtypes:
        raise ConfigError(
            f"dtype must be one of {', '.join(made.dtypes)} for {manifest.kind}, got "
            f"{manifest.dtype!r}"
        )
    for name, most in MOST.items():
        value = getattr(manifest, name)
        if not _is_count(value) or value < 1:
            raise ConfigError(f"{name} must be a positive integer, got {_shown(value)}")
        if value > most:
            raise ConfigError(f"{name} must be at most {most}, got {_shown(value)}")
    tolerance = manifest.tolerance
    if not isinstance(tolerance, float) or not 0 < tolerance < 1:
        raise ConfigError(f"tolerance must be between 0 and 1, got {_shown(tolerance)}")
    if not isinstance(manifest.source_sha256, str) or not (
        SHA256.fullmatch(manifest.source_sha256) or not manifest.source_sha256
    ):
        raise ConfigError(
            f"source_sha256 must be 64 hexadecimal digits, got {_shown(manifest.source_sha256)}"
        )
    _check_versions(manifest.versions)


def _check_versions(versions: Any) -> None:
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise ConfigError(f"versions must be texts by name, got {_shown(versions)}")
    for name, text in versions.items():
        if len(name) > LONGEST_NAME or not name.isprintable() or not text.isprintable():
            raise ConfigError(f"versions must be short printable texts, got {_shown(name)}")


def _specs(field: str, values: Any) -> tuple[TensorSpec, ...]:
    """Inputs or outputs.

    Raises:
        ConfigError: Naming the place.
    """
    count = {"inputs": 2, "outputs": 3}[field]
    if not isinstance(values, list) or len(values) != count:
        found = len(values) if isinstance(values, list) else _shown(values)
        raise ConfigError(f"{field} must be a list of {count}, got {found}")
    return tuple(_spec(f"{field}[{place}]", value) for place, value in enumerate(values))


def _spec(place: str, value: Any) -> TensorSpec:
    if not isinstance(value, dict) or set(value) != {"name", "dtype", "shape"}:
        raise ConfigError(f"{place} must have name, dtype and shape, got {_shown(value)}")
    name, dtype, shape = value["name"], value["dtype"], value["shape"]
    if not _is_name(name):
        raise ConfigError(
            f"{place}.name must be 1 to {LONGEST_NAME} characters, got {_shown(name)}"
        )
    if not isinstance(dtype, str) or dtype not in TENSOR_TYPES:
        raise ConfigError(
            f"{place}.dtype must be one of {', '.join(TENSOR_TYPES)}, got {_shown(dtype)}"
        )
    sizes = shape if isinstance(shape, list) else []
    if not 1 <= len(sizes) <= 3 or not all(_is_size(size) for size in sizes):
        raise ConfigError(
            f"{place}.shape must be 1 to 3 sizes, positive or names, got {_shown(shape)}"
        )
    return TensorSpec(name, dtype, tuple(sizes))


def _files(values: Any) -> dict[str, tuple[int, str]]:
    if not isinstance(values, dict) or len(values) > MOST_FILES:
        raise ConfigError(f"files must be at most {MOST_FILES} by name, got {_shown(values)}")
    found = {}
    for name, entry in values.items():
        if not _is_name(name) or Path(name).name != name or name == ARTIFACT or "\\" in name:
            raise ConfigError(f"files lists {_shown(name)}, which is not a file name")
        if not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            raise ConfigError(f"files[{name!r}] must have size and sha256, got {_shown(entry)}")
        size, digest = entry["size"], entry["sha256"]
        if not _is_count(size) or not 0 <= size <= LARGEST_FILE:
            raise ConfigError(f"files[{name!r}].size must be bytes, got {_shown(size)}")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise ConfigError(
                f"files[{name!r}].sha256 must be 64 hexadecimal digits, got {_shown(digest)}"
            )
        found[name] = (size, digest)
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME and value.isprintable()


def _is_size(value: object) -> bool:
    return _is_name(value) or (
        isinstance(value, int) and _is_count(value) and 1 <= value <= 1 << 31
    )


def _shown(value: object) -> str:
    """A value for messages, cut to a readable length; whole numbers of thousands of digits too."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
