"""Files of a model directory of transformers or sentence-transformers: JSON and safetensors.

Nothing in the directory is executed: weights in pickles are refused, code is never imported.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from osa.model.common.directories import ADAPTER, CONFIG, MODULES, TOKENIZER, WEIGHTS
from osa.model.common.model_files import open_file, parse_json, read_file
from osa.model.errors import CheckpointError

INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


class ModelFiles:
    """A directory, and the digests of the files that were read from it.

    Attributes:
        directory: The directory.
    """

    def __init__(self, directory: Path) -> None:
        """Read nothing yet."""
        self.directory = directory
        self._digests: dict[str, str] = {}

    def json_object(self, name: str, required: bool = False) -> dict[str, Any]:
        """The JSON object in a file; empty where the file is missing and not ``required``.

        Raises:
            CheckpointError: The file is missing, cannot be read, or holds something else.
        """
        values = self._json(name, required)
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise CheckpointError(f"{self.directory / name} must be a JSON object")
        return values

    def json_list(self, name: str) -> list[dict[str, Any]]:
        """The JSON list of objects in a file; empty where it is missing.

        Raises:
            CheckpointError: The file cannot be read, or holds something else.
        """
        values = self._json(name, False)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(item, dict) for item in values):
            raise CheckpointError(f"{self.directory / name} must be a JSON list of objects")
        return values

    def _json(self, name: str, required: bool) -> Any:
        if not required and not (self.directory / name).exists():
            return None
        try:
            return parse_json(self.read(name))
        except ValueError as error:
            raise CheckpointError(f"{self.directory / name} is not JSON: {error}") from error

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            CheckpointError: It cannot be read.
        """
        path = self.directory / name
        try:
            content = read_file(path)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
        self._digests[name] = hashlib.sha256(content).hexdigest()
        return content

    def tokenizer(self, folder: str = "") -> bytes:
        """Content of ``tokenizer.json``.

        Args:
            folder: Within the directory.

        Raises:
            CheckpointError: There is none, and what makes one.
        """
        name = f"{folder}/{TOKENIZER}" if folder else TOKENIZER
        if not (self.directory / name).is_file():
            raise CheckpointError(
                f"{self.directory} misses {TOKENIZER}: transformers writes it, "
                "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            )
        return self.read(name)

    def weights(self, folder: str = "") -> dict[str, Tensor]:
        """Tensors by name, of one file or of the shards that the index names.

        Args:
            folder: Within the directory.

        Raises:
            CheckpointError: There are none, they are pickled, or damaged.
        """
        prefix = f"{folder}/" if folder else ""
        if (self.directory / folder / WEIGHTS).is_file():
            return self._tensors(prefix + WEIGHTS)
        if not (self.directory / folder / INDEX).is_file():
            raise CheckpointError(self._no_weights(folder))
        shards = self.json_object(prefix + INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{self.directory / folder / INDEX} has no weight_map")
        found: dict[str, Tensor] = {}
        for shard in sorted(set(map(str, shards.values()))):
            if Path(shard).name != shard:
                raise CheckpointError(f"{self.directory / folder / INDEX} names {shard!r}")
            found |= self._tensors(prefix + shard)
        missing = sorted(set(shards) - set(found))
        if missing:
            raise CheckpointError(f"{self.directory / folder} misses tensor {missing[0]}")
        return found

    def _no_weights(self, folder: str) -> str:
        where = self.directory / folder
        for name in PICKLES:
            if (where / name).is_file():
                how = "AutoModel.from_pretrained(DIR).save_pretrained(DIR) of transformers"
                if not (where / TOKENIZER).is_file() and (self.directory / MODULES).is_file():
                    how = "SentenceTransformer(DIR).save(DIR) of sentence-transformers"
                return (
                    f"{where} has its weights as a pickle ({name}), which could run code and is "
                    f"never read: convert it where you trust it, {how}"
                )
        return f"{where} misses {WEIGHTS}: copy or download it again, whole"

    def _tensors(self, name: str) -> dict[str, Tensor]:
        path = self.directory / name
        try:
            with open_file(path) as file:
                self._digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
                same = Path(f"/proc/self/fd/{file.fileno()}")  # the file that was hashed
                with safe_open(same if same.exists() else path, framework="pt") as opened:
                    names = opened.keys()  # the file itself cannot be iterated
                    return {name: opened.get_tensor(name) for name in names}
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path} is not safetensors: {error}") from error

    def sha256(self) -> str:
        """Digest over the names and digests of the files that were read: the model's identity."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self._digests.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_complete(directory: Path) -> None:
    """Refuse a directory without the description of a model, or with an adapter besides.

    Raises:
        CheckpointError: It misses ``config.json``, or as ``refuse_adapter``.
    """
    if not (directory / CONFIG).is_file():
        raise CheckpointError(f"{directory} misses {CONFIG}: copy or download it again, whole")
    refuse_adapter(directory)


def refuse_adapter(directory: Path) -> None:
    """Refuse a directory with an adapter of peft beside the model.

    Raises:
        CheckpointError: It has one.
    """
    if (directory / ADAPTER).is_file():
        raise CheckpointError(
            f"{directory} has an adapter ({ADAPTER}), whose weights would be left out: merge it "
            "where you trust it, merge_and_unload() of peft, and save the whole model"
        )
