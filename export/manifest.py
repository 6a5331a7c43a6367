"""``artifact.json``: the description of an artifact, with a hash of every file.

    artifact.json          this manifest; size and sha256 of every other file
    model.onnx, model.pt2  the graph, by format
    config.json            EncoderConfig of the source
    tokenizer.json         for token models
    prompts.json           texts that the model wants before inputs, if any
    reference.safetensors  inputs of the parity grid and their vectors in float64
    parity.json            deviations of the grid at export

No file of an artifact is used before its hash is checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osa.export.errors import ArtifactError
from osa.export.formats import DTYPES, FORMATS
from osa.export.layouts import LAYOUTS, Layout, TensorSpec
from osa.model.calibration import CALIBRATION, Calibration
from osa.model.common.directories import ARTIFACT as ARTIFACT
from osa.model.common.directories import CONFIG, TOKENIZER, describe_path
from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError, InputError
from osa.model.prompts import PROMPTS, prompts_from_json
from osa.model.tokenization import TextTokenizer

FORMAT = "osa-artifact"
FORMAT_VERSION = 1
PARITY, REFERENCE = "parity.json", "reference.safetensors"
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 0.05}
"""Largest difference of any entry of a unit vector from the source's in float64."""


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


@dataclass(frozen=True)
class Artifact:
    """A verified artifact directory.

    Attributes:
        path: The directory.
        manifest: Its description.
        config: Configuration of the source.
        tokenizer: The tokenizer of a token model.
        sha256: Digest of the manifest: the identity of the artifact.
        calibration: Ranges of the source's vectors, if they were measured.
        prompts: Texts by name that the model wants before inputs.
        default_prompt_name: Of inputs for which none is named; None for no prompt.
    """

    path: Path
    manifest: Manifest
    config: EncoderConfig
    tokenizer: TextTokenizer | None
    sha256: str
    calibration: Calibration | None
    prompts: Mapping[str, str]
    default_prompt_name: str | None

    @property
    def graph(self) -> Path:
        """Path of the graph."""
        return self.path / FORMATS[self.manifest.kind].graph


def hash_files(directory: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file of ``directory`` but the manifest."""
    return {
        file.name: (file.stat().st_size, _sha256(file))
        for file in sorted(directory.iterdir())
        if file.name != ARTIFACT
    }


def is_artifact(directory: Path) -> bool:
    """Whether ``directory`` has an artifact's manifest."""
    return (directory / ARTIFACT).is_file()


def load_artifact(directory: Path) -> Artifact:
    """Read an artifact and check every file that it lists.

    Raises:
        ArtifactError: The file or field at fault, and what to do.
    """
    raw = _read(directory)
    manifest = _parse(raw, directory / ARTIFACT)
    for name, (size, digest) in manifest.files.items():
        _check_file(directory, name, size, digest)
    try:
        config = EncoderConfig.from_json((directory / CONFIG).read_text("utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{directory / CONFIG}: {error}") from error
    return Artifact(
        directory,
        manifest,
        config,
        _tokenizer(directory, config, manifest),
        hashlib.sha256(raw).hexdigest(),
        _calibration(directory, manifest),
        *_prompts(directory, manifest),
    )


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an artifact; its files are not verified.

    Raises:
        ArtifactError: The manifest is missing or damaged.
    """
    return _parse(_read(directory), directory / ARTIFACT)


def _read(directory: Path) -> bytes:
    path = directory / ARTIFACT
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"cannot read {path}: {describe_path(directory)}") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def _calibration(directory: Path, manifest: Manifest) -> Calibration | None:
    if CALIBRATION not in manifest.files:
        return None
    try:
        return Calibration.from_json((directory / CALIBRATION).read_text("utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{directory / CALIBRATION}: {error}") from error


def _prompts(directory: Path, manifest: Manifest) -> tuple[dict[str, str], str | None]:
    if PROMPTS not in manifest.files:
        return {}, None
    try:
        return prompts_from_json((directory / PROMPTS).read_bytes(), directory / PROMPTS)
    except CheckpointError as error:
        raise ArtifactError(str(error)) from error


def _tokenizer(directory: Path, config: EncoderConfig, manifest: Manifest) -> TextTokenizer | None:
    if TOKENIZER not in manifest.files:
        return None
    try:
        tokenizer = TextTokenizer.from_file(directory / TOKENIZER)
    except InputError as error:
        raise ArtifactError(str(error)) from error
    if tokenizer.vocab_size > (config.vocab_size or 0):
        raise ArtifactError(
            f"{directory / TOKENIZER} has {tokenizer.vocab_size} ids, the graph embeds "
            f"{config.vocab_size}: it belongs to another model"
        )
    return tokenizer


def _check_file(directory: Path, name: str, size: int, digest: str) -> None:
    file = directory / name
    again = "export the model again, or copy the directory again"
    if Path(name).name != name or not name.isprintable():
        raise ArtifactError(f"{directory / ARTIFACT} lists {name!r}, which is not a file name")
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: {again}")
    actual = file.stat().st_size
    if actual != size:
        raise ArtifactError(f"{file} has {actual} bytes, the manifest says {size}: {again}")
    if _sha256(file) != digest:
        raise ArtifactError(f"{file} does not match its sha256 in the manifest: {again}")


def _parse(raw: bytes, path: Path) -> Manifest:
    try:
        values = json.loads(raw)
        version = (values.pop("format"), values.pop("format_version"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not an artifact's manifest: {error!r}") from error
    if version[0] != FORMAT or not isinstance(version[1], int):
        raise ArtifactError(f"{path} is of format {version[0]!r}, expected {FORMAT!r}")
    if version[1] > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} is of format version {version[1]}, this release reads up to "
            f"{FORMAT_VERSION}: install a newer osa-encoder"
        )
    try:
        manifest = Manifest(
            **{
                **values,
                "inputs": _specs(values["inputs"]),
                "outputs": _specs(values["outputs"]),
                "files": {
                    str(name): (int(entry["size"]), str(entry["sha256"]))
                    for name, entry in values["files"].items()
                },
            }
        )
        _check_values(manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not an artifact's manifest: {error}") from error
    missing = {FORMATS[manifest.kind].graph, CONFIG, REFERENCE} - set(manifest.files)
    if missing:
        raise ArtifactError(f"{path} does not list {', '.join(sorted(missing))}")
    return manifest


def _check_values(manifest: Manifest) -> None:
    allowed: Mapping[str, tuple[str, ...]] = {
        "kind": tuple(FORMATS),
        "layout": LAYOUTS,
        "dtype": DTYPES,
        "device": ("any", "cpu", "cuda"),
    }
    for name, values in allowed.items():
        value = getattr(manifest, name)
        if value not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, got {value!r}")
    for name in ("min_sequences", "min_tokens", "max_seq_len"):
        value = getattr(manifest, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if not isinstance(manifest.tolerance, float) or not 0 < manifest.tolerance < 1:
        raise ValueError(f"tolerance must be between 0 and 1, got {manifest.tolerance!r}")


def _specs(values: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(str(spec["name"]), str(spec["dtype"]), tuple(spec["shape"])) for spec in values
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
