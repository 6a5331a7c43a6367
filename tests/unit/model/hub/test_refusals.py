"""What is not read is refused in one line that says what to do; nothing in a directory runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from osa.model import EmbeddingModel
from osa.model.errors import CheckpointError, UnsupportedModelError
from osa.model.hub import unsupported
from tests.transformer_models import make


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    make(tmp_path / "bert", "bert")
    return tmp_path / "bert"


def edit(directory: Path, name: str = "config.json", **changes: Any) -> None:
    """Change fields of a JSON file."""
    values = json.loads((directory / name).read_text())
    (directory / name).write_text(json.dumps({**values, **changes}))


def pickle_weights(directory: Path) -> None:
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


def own_code(directory: Path) -> None:
    """A module of the directory that would write a file when imported."""
    (directory / "own.py").write_text(f"open({str(directory / 'ran')!r}, 'w')")
    (directory / "modules.json").write_text('[{"idx": 0, "path": "", "type": "own.Transformer"}]')


def tensor(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors")


def edit_new(directory: Path, name: str, **values: Any) -> None:
    (directory / name).write_text(json.dumps(values))


def lead_to(directory: Path, path: str) -> None:
    """A pooling module of another folder."""
    kinds = {"Transformer": "", "Pooling": path}
    entries = [{"type": f"sentence_transformers.models.{k}", "path": v} for k, v in kinds.items()]
    (directory / "modules.json").write_text(json.dumps(entries))


LAYER = "encoder.layer.0.output.dense.weight"
REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (pickle_weights, r"pickle \(pytorch_model.bin\).*never read: convert it.*save_pretrained"),
    (own_code, r"needs code of its own \(modules.json: own.Transformer\), which is never run"),
    (lambda path: (path / "model.safetensors").unlink(), "misses model.safetensors: copy or"),
    (lambda path: (path / "tokenizer.json").unlink(), "misses tokenizer.json: transformers writes"),
    (lambda path: (path / "model.safetensors").write_bytes(b"x" * 64), "is not safetensors"),
    (lambda path: (path / "tokenizer.json").write_text("{}"), "tokenizer.json is not a tokenizer"),
    (lambda path: edit(path, hidden_size="32"), "hidden_size must be int, got '32'"),
    (lambda path: edit(path, num_attention_heads=5), "multiple of num_heads, got 32 and 5"),
    (lambda path: edit(path, num_hidden_layers=5), "misses tensor encoder.layer.4"),
    (lambda path: edit(path, num_hidden_layers=3), "unknown tensor encoder.layer.3"),
    (lambda path: edit(path, vocab_size=9), "has 30522 ids, the model embeds 9"),
    (lambda path: tensor(path, lambda all: all.pop(LAYER)), f"misses tensor {LAYER}"),
    (lambda path: tensor(path, lambda all: all[LAYER].fill_(torch.nan)), "not finite"),
    (
        lambda path: edit(path, auto_map={"AutoModel": "own.Model"}),
        r"own \(auto_map\), which is never run: if its layers are those of transformers' bert",
    ),
    (lambda path: edit_new(path, "adapter_config.json"), r"an adapter \(adapter_config.json\)"),
    (lambda path: lead_to(path, "../other"), "names '../other', outside of the directory"),
    (lambda path: lead_to(path, "/tmp"), "names '/tmp', outside of the directory"),
]
UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "t5"}, "our encoder has no model type 't5'; it runs bert, roberta"),
    ({"hidden_act": "mish"}, "our encoder has no activation mish"),
    ({"is_decoder": True}, "our encoder has no is_decoder True"),
    ({"position_embedding_type": "relative_key"}, "no position_embedding_type 'relative_key'"),
    ({"quantization_config": {"quant_method": "fp8"}}, "no quantised weights"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED)
def test_damaged_directories_are_refused(
    damage: Callable[[Path], object], message: str, bert: Path
) -> None:
    damage(bert)
    with pytest.raises(CheckpointError, match=message) as error:
        EmbeddingModel.from_pretrained(bert)
    assert not isinstance(error.value, UnsupportedModelError)
    assert "\n" not in str(error.value)
    assert not (bert / "ran").exists()


@pytest.mark.parametrize(("changes", "message"), UNSUPPORTED)
def test_other_architectures_are_told(changes: dict[str, Any], message: str, bert: Path) -> None:
    edit(bert, **changes)
    with pytest.raises(UnsupportedModelError, match=message):
        EmbeddingModel.from_pretrained(bert)
    assert message in str(unsupported(bert))


def test_a_readable_model_is_supported(bert: Path) -> None:
    assert unsupported(bert) is None


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (["Transformer", "WordWeights"], "has module WordWeights"),
        (["StaticEmbedding"], "begins with the module StaticEmbedding"),
        (["Transformer", "Pooling:max"], "pooling is max; ours are mean, cls"),
        (["Transformer", "Pooling:mean+cls"], "pooling is mean and cls"),
        (["Transformer", "Pooling:mean", "Normalize", "Dense"], "normalises before its Dense"),
    ],
)
def test_other_modules_are_told(modules: list[str], message: str, bert: Path) -> None:
    entries = []
    for place, module in enumerate(modules):
        name, _, modes = module.partition(":")
        folder = f"{place}_{name}" if place else ""
        (bert / folder).mkdir(exist_ok=True)
        if modes:
            (bert / folder / "config.json").write_text(
                json.dumps({"pooling_mode": modes.split("+")})
            )
        entries.append(
            {"idx": place, "path": folder, "type": f"sentence_transformers.models.{name}"}
        )
    (bert / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(UnsupportedModelError, match=message):
        EmbeddingModel.from_pretrained(bert)


@pytest.mark.parametrize("outside", ["../other", "/etc", "1_Pooling/../../other"])
@pytest.mark.parametrize("place", [0, 1])
def test_modules_outside_of_the_directory_are_refused(outside: str, place: int, bert: Path) -> None:
    paths = ["", "1_Pooling"]
    paths[place] = outside
    kinds = ("Transformer", "Pooling")
    entries = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for path, kind in zip(paths, kinds, strict=True)
    ]
    (bert / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(CheckpointError, match=r"modules.json names .*, outside of the directory"):
        unsupported(bert)


@pytest.mark.parametrize("made", ["CrossEncoder", "SparseEncoder", "MultiVectorEncoder"])
def test_other_models_of_the_library_are_no_embedding_models(made: str, bert: Path) -> None:
    lead_to(bert, "1_Pooling")
    (bert / "1_Pooling").mkdir()
    edit_new(bert / "1_Pooling", "config.json", pooling_mode="mean")
    assert unsupported(bert) is None
    edit_new(bert, "config_sentence_transformers.json", model_type=made)
    assert f"is a {made} of other modules" in str(unsupported(bert))


@pytest.mark.parametrize("mode", [5, [["mean"]], {}])
def test_a_pooling_that_is_no_name_is_told(mode: object, bert: Path) -> None:
    lead_to(bert, "1_Pooling")
    (bert / "1_Pooling").mkdir()
    edit_new(bert / "1_Pooling", "config.json", pooling_mode=mode)
    assert "pooling is " in str(unsupported(bert))


def test_labels_that_are_alike_are_told(tmp_path: Path) -> None:
    make(tmp_path, "bert", "ForSequenceClassification", id2label={0: "same", 1: "same"})
    with pytest.raises(CheckpointError, match=r"config.json: labels must differ"):
        EmbeddingModel.from_pretrained(tmp_path)


def test_a_dense_layer_in_a_pickle_is_converted_by_its_own_library(bert: Path) -> None:
    lead_to(bert, "1_Pooling")
    entries = json.loads((bert / "modules.json").read_text())
    entries.append({"type": "sentence_transformers.models.Dense", "path": "2_Dense"})
    (bert / "modules.json").write_text(json.dumps(entries))
    for folder in ("1_Pooling", "2_Dense"):
        (bert / folder).mkdir()
        edit_new(bert / folder, "config.json")
    torch.save({}, bert / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"2_Dense has its weights as a pickle.*SentenceTr"):
        EmbeddingModel.from_pretrained(bert)


def test_stretched_positions_of_modernbert_are_told(tmp_path: Path) -> None:
    make(tmp_path, "modernbert")
    values = json.loads((tmp_path / "config.json").read_text())["rope_parameters"]
    values["full_attention"] |= {"rope_type": "linear", "factor": 4.0}
    edit(tmp_path, rope_parameters=values)
    assert "scaled rotary positions" in str(unsupported(tmp_path))
