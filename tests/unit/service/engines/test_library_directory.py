"""What a directory of another library lacks, or may not do: refused before the library reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from osa.model.errors import CheckpointError
from osa.service.engines.library_directory import check_directory, directory_sha256, read_prompts
from osa.service.engines.selection import select_engine
from osa.service.model_settings import ModelSettings
from tests.library_models import change_json, make_library_model

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "electra"
    make_library_model(directory, "electra")
    return directory


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def remove(*names: str) -> Change:
    def apply(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return apply


def write(name: str, content: object) -> Change:
    return lambda directory: (directory / name).write_text(json.dumps(content))


def change(name: str, **values: object) -> Change:
    return lambda directory: change_json(directory / name, **values)


def rename(name: str, other: str) -> Change:
    return lambda directory: (directory / name).rename(directory / other)


def change_type(place: int, name: str, path: str | None = None) -> Change:
    def apply(directory: Path) -> None:
        modules = json.loads((directory / "modules.json").read_text())
        modules[place]["type"] = name
        modules[place]["path"] = modules[place]["path"] if path is None else path
        (directory / "modules.json").write_text(json.dumps(modules))

    return apply


OWN = "sentence_transformers.models."
REFUSED: dict[str, tuple[Change, str]] = {
    "weights": (remove("model.safetensors"), r"copy misses model\.safetensors: copy the directory"),
    "config": (remove("config.json"), r"copy misses config\.json: copy the directory again, whole"),
    "tokenizer": (remove("tokenizer.json"), r"copy misses tokenizer\.json: copy the directory"),
    "dense weights": (remove("2_Dense/model.safetensors"), r"2_Dense misses model\.safetensors"),
    "dense config": (remove("2_Dense/config.json"), r"2_Dense misses config\.json"),
    "shard": (
        lambda directory: (
            remove("model.safetensors")(directory),
            write("model.safetensors.index.json", {"weight_map": {"a": "x-2.safetensors"}})(
                directory
            ),
        ),
        r"misses x-2\.safetensors",
    ),
    "index": (write("model.safetensors.index.json", {"weight_map": []}), "has no weight_map"),
    "shard elsewhere": (
        write("model.safetensors.index.json", {"weight_map": {"a": "../x.safetensors"}}),
        r"names \.\./x\.safetensors, outside of its folder",
    ),
    "adapter": (write("adapter_config.json", {}), r"has an adapter \(adapter_config\.json\)"),
    "deep": (lambda path: (path / "modules.json").write_text("[" * 100_000), "not a list of"),
    "pickle": (
        rename("model.safetensors", "pytorch_model.bin"),
        r"weights in pytorch_model\.bin, a pickle, .* is never read here: convert it .*save\('OUT'",
    ),
    "dense pickle": (
        rename("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"),
        r"2_Dense has its weights in pytorch_model\.bin, a pickle",
    ),
    "own module": (
        change_type(1, "modeling_own.Pooling"),
        r"modules\.json names modeling_own\.Pooling, code that is not part of .* never run here",
    ),
    "a module of another package": (
        change_type(1, "os.system"),
        "names os.system, code that is not part of sentence-transformers",
    ),
    "auto_map": (
        change("config.json", auto_map={"AutoModel": "modeling_own.Model"}),
        r"config\.json asks for code of the model's own \(auto_map\), .* transformers itself has "
        r"electra, delete auto_map from the file, otherwise serve another model",
    ),
    "tokenizer's auto_map": (
        change("tokenizer_config.json", auto_map={"AutoTokenizer": ["a.T", None]}),
        r"tokenizer_config\.json asks for code of the model's own",
    ),
    "activation": (
        change("2_Dense/config.json", activation_function="modeling_own.Act"),
        r"names the activation modeling_own\.Act, code that is not torch's",
    ),
    "outside": (change_type(1, OWN + "Pooling", "../x"), r"names \.\./x, outside of the directory"),
    "router": (change_type(1, OWN + "Router"), "names the module Router, which this engine does"),
    "no pooling": (change_type(1, OWN + "Dropout"), "has the modules Transformer, Dropout, Dense"),
    "not modules": (write("modules.json", {"a": 1}), "is not a list of modules with type and path"),
    "empty": (write("modules.json", []), r"modules\.json names no module"),
    "not JSON": (
        lambda directory: (directory / "config.json").write_text("{"),
        r"config\.json is not JSON",
    ),
    "not an object": (write("config.json", [1]), r"config\.json is not a JSON object"),
    "prompt left out": (
        change("1_Pooling/config.json", include_prompt=False),
        r"leaves the prompt out of the pooling \(include_prompt\)",
    ),
    "classifier": (
        change("config.json", architectures=["ElectraForSequenceClassification"]),
        r"is a classifier \(ElectraForSequenceClassification\), not an embedding model",
    ),
    "cross-encoder": (
        change("config_sentence_transformers.json", model_type="CrossEncoder"),
        "is a CrossEncoder of sentence-transformers, not an embedding model",
    ),
    "prompts": (
        change("config_sentence_transformers.json", prompts={"a": 1}),
        "prompts must be texts by name",
    ),
    "default prompt": (
        change("config_sentence_transformers.json", default_prompt_name="x"),
        "default_prompt_name is 'x', but the prompts are document, query",
    ),
    "unknown architecture": (
        change("config.json", model_type="never_heard_of"),
        "sentence-transformers cannot load it: .*never_heard_of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line_that_says_what_to_do(case: str, copy: Path) -> None:
    apply, message = REFUSED[case]
    apply(copy)
    settings = ModelSettings.model_validate({"path": copy, "engine": "sentence-transformers"})
    with pytest.raises(CheckpointError, match=message) as refused:
        select_engine(settings)
    assert "\n" not in str(refused.value)


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (_write, (str(self._mark), "ran"))


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize(
    "apply",
    [
        change_type(1, "modeling_own.Pooling"),
        change("config.json", auto_map={"AutoModel": "modeling_own.Model",
                                        "AutoConfig": "modeling_own.Config"}),
        change("tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_own.T", None]}),
        change("2_Dense/config.json", activation_function="modeling_own.Act"),
        lambda directory: (directory / "modules.json").unlink(),
    ],
    ids=["module", "config", "tokenizer", "activation", "none"],
)  # fmt: skip
def test_code_beside_a_model_never_runs(
    apply: Change, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = copy.parent / "ran"
    code = f"from pathlib import Path\nPath({str(mark)!r}).write_text('ran')\nclass Pooling: pass\n"
    for name in ("modeling_own.py", "configuration_own.py", "sitecustomize.py"):
        (copy / name).write_text(code)
    torch.save({"weight": Payload(mark)}, copy / "pytorch_model.bin")
    monkeypatch.chdir(copy)  # where a careless import would find it
    apply(copy)
    settings = ModelSettings.model_validate({"path": copy, "engine": "sentence-transformers"})
    if (copy / "modules.json").is_file():
        with pytest.raises(CheckpointError, match="never run here"):
            select_engine(settings)
    else:  # a plain model of transformers, which asks for nothing
        info = select_engine(settings).engine.info
        assert (info.pooling, info.dimensions) == ("mean", (16,))
    assert not mark.exists()
    exec(compile(code, "own", "exec"), {})
    assert mark.exists(), "the code would have been seen"


def test_prompts_and_identity_come_from_the_files(copy: Path) -> None:
    assert read_prompts(copy) == ({}, None)
    parts = check_directory(copy)
    assert [part.kind for part in parts] == ["Transformer", "Pooling", "Dense", "Normalize"]
    before = directory_sha256(copy, parts)
    (copy / "2_Dense" / "notes.md").write_text("x")
    assert directory_sha256(copy, parts) == before
    weights = copy / "2_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert directory_sha256(copy, parts) != before
