"""Checkpoints: a round trip, and an error for every kind of damage."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from osa.model import CheckpointError, EmbeddingModel
from osa.model.calibration import CALIBRATION
from osa.model.checkpoint import (
    CONFIG,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    atomic_directory,
    read_verified,
    write_manifest,
)
from tests.conftest import make_tiny_model

TEXTS = ["the cat sat on the mat", "a dog ran"]


def test_round_trip_keeps_vectors_to_the_bit(
    tiny_model: EmbeddingModel, tiny_checkpoint: Path
) -> None:
    loaded = EmbeddingModel.from_pretrained(tiny_checkpoint)
    assert loaded.config == tiny_model.config
    assert not loaded.training
    assert torch.equal(loaded.encode(TEXTS), tiny_model.encode(TEXTS))


def test_half_precision_files_load_as_float32(tmp_path: Path, tiny_model: EmbeddingModel) -> None:
    tiny_model.save_pretrained(tmp_path / "half", torch.float16)
    assert load_file(tmp_path / "half" / WEIGHTS)["encoder.norm.weight"].dtype == torch.float16
    loaded = EmbeddingModel.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.encode(TEXTS), tiny_model.encode(TEXTS), atol=2e-3, rtol=0)


def test_saving_again_replaces_the_whole_directory(
    tiny_checkpoint: Path, tiny_model: EmbeddingModel
) -> None:
    (tiny_checkpoint / "training.json").write_text("of the last one")
    tiny_model.save_pretrained(tiny_checkpoint, extra={"training.json": b"{}"})
    names = {file.name for file in tiny_checkpoint.iterdir()}
    assert names == {CONFIG, WEIGHTS, TOKENIZER, MANIFEST, "training.json"}
    assert [file.name for file in tiny_checkpoint.parent.iterdir()] == ["tiny"]


def test_a_failed_write_leaves_the_old_directory(tiny_checkpoint: Path) -> None:
    before = (tiny_checkpoint / MANIFEST).read_bytes()

    def write_half() -> None:
        with atomic_directory(tiny_checkpoint, MANIFEST) as staging:
            (staging / CONFIG).write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert (tiny_checkpoint / MANIFEST).read_bytes() == before
    assert [file.name for file in tiny_checkpoint.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("taken", [True, False])
def test_an_old_directory_outlives_an_exchange_that_fails(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Also where something else has taken its place, so that it cannot be put back."""
    before, replace = (tiny_checkpoint / MANIFEST).read_bytes(), os.replace

    def occupied(source: Path, target: Path) -> None:
        if target == tiny_checkpoint and source.name != "old":
            if taken:
                target.mkdir()
                (target / "other").touch()
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    def exchange() -> None:
        with atomic_directory(tiny_checkpoint, MANIFEST) as staging:
            (staging / MANIFEST).write_text("new")

    monkeypatch.setattr(os, "replace", occupied)
    wanted = CheckpointError if taken else OSError
    with pytest.raises(wanted, match="what was there before is in" if taken else "Input") as caught:
        exchange()
    old = Path(str(caught.value).rpartition(" ")[2]) if taken else tiny_checkpoint
    assert (old / MANIFEST).read_bytes() == before
    assert len(list(tiny_checkpoint.parent.iterdir())) == 1 + taken


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TOKENIZER])
@pytest.mark.parametrize(
    ("damage", "message"),
    [(Path.unlink, "cannot read .*"), (truncate, "bytes, the manifest says"), (flip, "sha256")],
)
def test_a_damaged_file_is_named(
    tiny_checkpoint: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(tiny_checkpoint / name)
    with pytest.raises(CheckpointError, match=message) as caught:
        EmbeddingModel.from_pretrained(tiny_checkpoint)
    assert name in str(caught.value)


def edit_config(directory: Path, **changes: object) -> None:
    values = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**values, **changes}))


def edit_weights(directory: Path, name: str, tensor: torch.Tensor | None) -> None:
    weights = load_file(directory / WEIGHTS)
    weights.pop(name, None)
    save_file(weights if tensor is None else {**weights, name: tensor}, directory / WEIGHTS)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: edit_config(d, depth=3), "unknown field depth"),
        (lambda d: edit_config(d, **{"x" * 100_000: 3}), "unknown field x{40}; known are"),
        (lambda d: edit_config(d, max_seq_len=1), "config.json: max_seq_len must be at least 3"),
        (lambda d: edit_config(d, max_seq_len=2), "a token beside 2 special ones, got 2"),
        (lambda d: edit_config(d, mixer=3), r"mixer must be str \| tuple\[str, ...\], got 3"),
        (lambda d: edit_config(d, ffn_size=34), "shape .* the configuration asks for"),
        (lambda d: edit_config(d, mixer="rnn"), "config.json: mixer must be one of"),
        (lambda d: edit_config(d, num_layers=3), "misses tensor encoder.blocks.2"),
        (lambda d: edit_config(d, vocab_size=5), "12 ids, the model embeds 5"),
        (lambda d: edit_weights(d, "encoder.norm.weight", None), "misses tensor encoder.norm"),
        (lambda d: edit_weights(d, "other", torch.ones(1)), "unknown tensor other"),
        (lambda d: edit_weights(d, "encoder.norm.weight", torch.full((16,), torch.nan)),
         "encoder.norm.weight holds a value that is not finite"),
        (lambda d: edit_config(d, vocab_size=10**25), "config.json"),
        (lambda d: edit_config(d, ffn_size=10**12), "ffn_size must be at most 1048576, got 10{12}"),
        (lambda d: (d / CONFIG).write_text("[" * 100_000), "config.json"),
        (lambda d: edit_weights(d, "encoder.norm.weight", torch.ones(16, dtype=torch.int8)),
         "encoder.norm.weight is int8 and has no encoder.norm.weight.row_scale"),
        (lambda d: edit_weights(d, "encoder.norm.weight", torch.ones(16, dtype=torch.int32)),
         "encoder.norm.weight is torch.int32, allowed are"),
        (lambda d: (d / WEIGHTS).write_bytes(b"pickle"), "is not safetensors"),
        (lambda d: (d / CONFIG).write_bytes(b"\xff"), "config.json"),
        (lambda d: (d / TOKENIZER).write_text("{}"), "tokenizer.json is not a tokenizer"),
        (lambda d: (d / TOKENIZER).unlink(), "does not list tokenizer.json"),
        (lambda d: (d / CALIBRATION).write_text("{}"), "calibration.json: not a calibration"),
        (lambda d: (d / WEIGHTS).unlink(), "does not list model.safetensors"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_contradicts_itself_is_refused(
    tiny_checkpoint: Path, edit: Callable[[Path], object], message: str
) -> None:
    edit(tiny_checkpoint)
    write_manifest(tiny_checkpoint)
    with pytest.raises(CheckpointError, match=message):
        EmbeddingModel.from_pretrained(tiny_checkpoint)


def listing(sizes: dict[str, int]) -> str:
    files = {name: {"size": size, "sha256": ""} for name, size in sizes.items()}
    return json.dumps({"format": "osa-encoder", "format_version": 1, "files": files})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not a manifest"),
        ("{", "is not a manifest"),
        ('{"format": "osa-encoder", "format_version": 9, "files": {}}', "osa-encoder 9"),
        ('{"format": "osa-encoder", "format_version": 1, "files": {"../x": {"size": 1, '
         '"sha256": ""}}}', "is not a file name"),
        (listing({"a": -1}), "a must have a size in bytes, got -1"),
        (listing({f"extra-{n}": 0 for n in range(65)}), "lists 65 files, allowed are 64"),
        (listing({"a": 1 << 60, "b": 1}), f"files of {(1 << 60) + 1} bytes in all, more than the"),
        (None, "cannot read"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(
    tiny_checkpoint: Path, content: str | None, message: str
) -> None:
    (tiny_checkpoint / MANIFEST).unlink()
    if content is not None:
        (tiny_checkpoint / MANIFEST).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        EmbeddingModel.from_pretrained(tiny_checkpoint)


def test_files_of_other_names_are_compared_but_not_kept(tiny_checkpoint: Path) -> None:
    for number in range(50):
        (tiny_checkpoint / f"extra-{number}").write_bytes(bytes([number]) * 1_000_000)
    write_manifest(tiny_checkpoint)
    tracemalloc.start()
    contents, _ = read_verified(tiny_checkpoint)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert contents.keys() == {CONFIG, WEIGHTS, TOKENIZER}
    assert most < 10_000_000
    flip(tiny_checkpoint / "extra-7")
    with pytest.raises(CheckpointError, match="extra-7 does not match its sha256"):
        read_verified(tiny_checkpoint)


def test_a_directory_of_other_things_is_not_replaced(
    tmp_path: Path, tiny_model: EmbeddingModel
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds other files"):
        tiny_model.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_exchange_puts_the_old_directory_back(
    tiny_checkpoint: Path, tiny_model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tiny_checkpoint / MANIFEST).read_bytes()
    real, target = os.replace, tiny_checkpoint.resolve()

    def failing(source: Path, destination: Path) -> None:
        if destination == target and source.name != "old":
            raise OSError("no space")
        real(source, destination)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no space"):
        tiny_model.save_pretrained(tiny_checkpoint)
    assert (tiny_checkpoint / MANIFEST).read_bytes() == before
    assert [file.name for file in tiny_checkpoint.parent.iterdir()] == ["tiny"]


def test_what_could_not_be_loaded_again_is_not_written(
    tmp_path: Path, tiny_model: EmbeddingModel
) -> None:
    with pytest.raises(CheckpointError, match="cannot be named"):
        tiny_model.save_pretrained(tmp_path / "a", extra={"../evil": b""})
    with torch.no_grad():
        tiny_model.get_parameter("encoder.norm.weight")[0] = 1e5
    with pytest.raises(CheckpointError, match=r"norm.weight has a value that is not finite"):
        tiny_model.save_pretrained(tmp_path / "a", torch.float16)
    with pytest.raises(CheckpointError, match="without its tokenizer"):
        EmbeddingModel(tiny_model.config).save_pretrained(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not a directory"):
        EmbeddingModel.from_pretrained(tmp_path / "nowhere")


def test_feature_models_need_no_tokenizer(tmp_path: Path) -> None:
    model = make_tiny_model(vocab_size=None, feature_size=4)
    model.save_pretrained(tmp_path / "features")
    features = torch.randn(1, 5, 4)
    loaded = EmbeddingModel.from_pretrained(tmp_path / "features")
    assert torch.equal(loaded(features).embeddings, model(features).embeddings)
