"""``artifact.json``: the description of an artifact, with a hash of every file.

    artifact.json          this manifest; size and sha256 of every other file
    model.onnx, model.pt2  the graph, by format
    config.json            EncoderConfig of the source
    tokenizer.json         for token models
    prompts.json           texts that the model wants before inputs, if any
    reference.safetensors  inputs of the parity grid and their vectors in float64
    parity.json            deviations of the grid at export

What is used of an artifact was read once, into memory, and has the size and the hash that the
manifest lists: other files are never read, links lead nowhere else, and a file that is exchanged
between its check and its use is not loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from osa.export.errors import ArtifactError
from osa.export.formats import FORMATS
from osa.export.layouts import TensorSpec, input_specs, output_specs
from osa.export.manifest_values import (
    MANIFEST_LIMIT,
    Manifest,
    check_manifest,
    parse_manifest,
)
from osa.model.calibration import CALIBRATION, Calibration
from osa.model.common.directories import ARTIFACT, CONFIG, TOKENIZER, describe_path
from osa.model.common.model_files import (
    AlteredFileError,
    check_listed,
    memory,
    read_file,
    read_listed,
)
from osa.model.config import EncoderConfig
from osa.model.errors import CheckpointError, ConfigError, InputError
from osa.model.prompts import PROMPTS, prompts_from_json
from osa.model.tokenization import TextTokenizer

AGAIN = "export the model again, or copy the directory again"


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
        """Path of the graph, for messages: ``read`` gives its content."""
        return self.path / FORMATS[self.manifest.kind].graph

    def read(self, name: str) -> bytes:
        """Content of a file that the manifest lists, as the manifest describes it.

        Raises:
            ArtifactError: The manifest does not list it, or it has changed.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path / ARTIFACT} does not list {name}: it is not read")
        return _read_listed(self.path, name, self.manifest, memory())

    def read_graph(self) -> bytes:
        """Content of the graph; see ``read``."""
        return self.read(self.graph.name)


def hash_files(directory: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file of ``directory`` but the manifest."""
    found = {}
    for file in sorted(directory.iterdir()):
        if file.name != ARTIFACT:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            found[file.name] = (file.stat().st_size, digest)
    return found


def is_artifact(directory: Path) -> bool:
    """Whether ``directory`` has an artifact's manifest."""
    return (directory / ARTIFACT).is_file()


def load_artifact(directory: Path, proven: bool = True) -> Artifact:
    """Read an artifact and check every file that it lists.

    Args:
        directory: The artifact.
        proven: Whether it must have a reference to prove it by, as every finished one has.

    Raises:
        ArtifactError: The file or field at fault, and what to do.
    """
    raw = _read(directory)
    manifest = _parse(raw, directory / ARTIFACT, proven)
    small = (CONFIG, TOKENIZER, CALIBRATION, PROMPTS)
    for name in manifest.files:
        if name not in small:
            _check_listed(directory, name, manifest)
    contents = {
        name: _read_listed(directory, name, manifest) for name in small if name in manifest.files
    }
    try:
        config = EncoderConfig.from_json(contents[CONFIG].decode("utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{directory / CONFIG}: {error}") from error
    _check_specs(manifest, config, directory / ARTIFACT)
    return Artifact(
        directory,
        manifest,
        config,
        _tokenizer(contents.get(TOKENIZER), directory / TOKENIZER, config),
        hashlib.sha256(raw).hexdigest(),
        _calibration(contents.get(CALIBRATION), directory / CALIBRATION),
        *_prompts(contents.get(PROMPTS), directory / PROMPTS),
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
        return read_file(path, MANIFEST_LIMIT)
    except FileNotFoundError as error:
        raise ArtifactError(f"cannot read {path}: {describe_path(directory)}") from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def _parse(raw: bytes, path: Path, proven: bool = True) -> Manifest:
    manifest = parse_manifest(raw, path)
    check_manifest(manifest, path, proven)
    return manifest


def _check_specs(manifest: Manifest, config: EncoderConfig, path: Path) -> None:
    """Refuse other inputs or outputs than a model of this configuration has."""
    for name, found, wanted in (
        ("inputs", manifest.inputs, input_specs(config, manifest.layout)),
        ("outputs", manifest.outputs, output_specs(config, manifest.layout)),
    ):
        if found != wanted:
            raise ArtifactError(
                f"{path}: {name} must be {describe_specs(wanted)} by {CONFIG}, got "
                f"{describe_specs(found)}"
            )


def describe_specs(specs: tuple[TensorSpec, ...]) -> str:
    """Inputs or outputs in a line, in order."""
    return ", ".join(
        f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]" for spec in specs
    )


def _calibration(content: bytes | None, path: Path) -> Calibration | None:
    if content is None:
        return None
    try:
        return Calibration.from_json(content.decode("utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: {error}") from error


def _prompts(content: bytes | None, path: Path) -> tuple[dict[str, str], str | None]:
    if content is None:
        return {}, None
    try:
        return prompts_from_json(content, path)
    except CheckpointError as error:
        raise ArtifactError(str(error)) from error


def _tokenizer(content: bytes | None, path: Path, config: EncoderConfig) -> TextTokenizer | None:
    if content is None:
        return None
    try:
        tokenizer = TextTokenizer.from_json(content, config.vocab_size)
    except InputError as error:
        raise ArtifactError(f"{path}: {error}") from error
    if tokenizer.vocab_size > (config.vocab_size or 0):
        raise ArtifactError(
            f"{path} has {tokenizer.vocab_size} ids, the model embeds {config.vocab_size}: it "
            "belongs to another model"
        )
    return tokenizer


def _read_listed(directory: Path, name: str, manifest: Manifest, limit: int | None = None) -> bytes:
    try:
        return read_listed(directory / name, *manifest.files[name], limit)
    except (AlteredFileError, OSError) as error:
        raise _refusal(directory / name, error) from error


def _check_listed(directory: Path, name: str, manifest: Manifest) -> None:
    try:
        check_listed(directory / name, *manifest.files[name], memory())
    except (AlteredFileError, OSError) as error:
        raise _refusal(directory / name, error) from error


def _refusal(path: Path, error: AlteredFileError | OSError) -> ArtifactError:
    if isinstance(error, AlteredFileError):
        return ArtifactError(f"{error}: {AGAIN}")
    if isinstance(error, FileNotFoundError):
        return ArtifactError(f"{path} is missing: {AGAIN}")
    return ArtifactError(f"cannot read {path}: {error.strerror}: {AGAIN}")
