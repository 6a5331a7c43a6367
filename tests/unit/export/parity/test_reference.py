"""The float64 reference: its content, and when a cached one is used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from osa.export.manifest_values import REFERENCE
from osa.export.parity import reference
from osa.export.parity.cases import grid
from osa.export.parity.reference import MAX_ENTRIES, make_reference
from tests.conftest import make_tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reference, "user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache" / reference.FOLDER


def make(tmp_path: Path, told: list[str], **changes: object) -> bytes:
    model = make_tiny_model(max_seq_len=64, **changes)
    make_reference(model, "packed", tmp_path, told.append)
    return (tmp_path / REFERENCE).read_bytes()


def test_it_is_the_source_in_float64_case_by_case(tmp_path: Path) -> None:
    told: list[str] = []
    threads = torch.get_num_threads()
    tensors = load(make(tmp_path, told))
    assert torch.get_num_threads() == threads
    model = make_tiny_model(max_seq_len=64)
    cases = list(grid(model.config, "packed"))
    assert sorted(told) == sorted(
        f"float64 reference: case {index + 1} of {len(cases)}: {case.name}"
        for index, case in enumerate(sorted(cases, key=lambda case: -case.inputs.size))
    )
    precise = model.double()
    for place, case in enumerate(cases):
        rows = np.split(case.inputs, case.places[1:-1])
        expected = precise.embed_ids([row.tolist() for row in rows]).embeddings.detach()
        np.testing.assert_allclose(tensors[f"{place}.embeddings"], expected, atol=1e-12)
        np.testing.assert_array_equal(tensors[f"{place}.inputs"], case.inputs)


def test_the_same_model_is_computed_once(tmp_path: Path, cache: Path) -> None:
    told: list[str] = []
    first = make(tmp_path, told)
    told.clear()
    assert make(tmp_path, told) == first
    (entry,) = cache.iterdir()
    assert told == [f"float64 reference: taken from {entry}"]


def test_other_weights_layouts_and_configurations_have_their_own(
    tmp_path: Path, cache: Path
) -> None:
    make(tmp_path, [])
    make(tmp_path, [], alpha_init=0.3)
    make(tmp_path, [], activation="relu")
    model = make_tiny_model(max_seq_len=64)
    make_reference(model, "padded", tmp_path)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    make_reference(model, "packed", tmp_path)
    assert len(list(cache.iterdir())) == 5


@pytest.mark.parametrize("module", ["graph", "parity.cases", "parity.comparison"])
def test_another_version_of_the_code_has_its_own(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    make(tmp_path, [])
    other = tmp_path / "other.py"
    other.write_text("# another version")
    monkeypatch.setattr(f"osa.export.{module}.__file__", str(other))
    make(tmp_path, [])
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "short", "flipped"])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, cache: Path, damage: str) -> None:
    first = make(tmp_path, [])
    (entry,) = cache.iterdir()
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    kept = {"empty": b"", "short": entry.read_bytes()[:-100], "flipped": bytes(content)}[damage]
    entry.write_bytes(kept)
    told: list[str] = []
    assert make(tmp_path, told) == first
    assert told[0].startswith("float64 reference: case 1 of")
    told.clear()
    make(tmp_path, told)
    assert told == [f"float64 reference: taken from {entry}"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, cache: Path) -> None:
    cache.parent.write_text("a file where the directory would be")
    first = make(tmp_path, [])
    assert make(tmp_path, []) == first


def test_without_a_home_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "user_cache", lambda: None)
    assert make(tmp_path, []) == make(tmp_path, [])


def test_the_least_used_entries_go(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, [])
    (own,) = cache.iterdir()
    size = own.stat().st_size
    for age in range(MAX_ENTRIES + 3):
        other = cache / f"{age}.safetensors"
        other.write_bytes(bytes(size))
        os.utime(other, (1000 - age, 1000 - age))
    make(tmp_path, [], alpha_init=0.3)
    names = {file.name for file in cache.iterdir()}
    assert len(names) == MAX_ENTRIES
    assert own.name in names
    assert "0.safetensors" in names
    assert f"{MAX_ENTRIES - 2}.safetensors" not in names
    monkeypatch.setattr(reference, "MAX_BYTES", 3 * size)
    make(tmp_path, [], alpha_init=0.4)
    assert len(list(cache.iterdir())) == 3
