"""Stores are reused, rebuilt after any change, and built by several processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.training.data.report import Rules
from osa.model.training.data.store import ExampleStore
from osa.model.training.data.writer import write_examples
from tests.conftest import PATIENCE_S

TEXT = (Field("text", "text", "text"),)
LABELLED = (*TEXT, Field("label", "class", "label"))


def lines(file: Path, *content: str) -> Path:
    file.write_text("".join(f"{line}\n" for line in content))
    return file


def build(files: Path | list[Path], fields: tuple[Field, ...] = TEXT, **rules: Any) -> ExampleStore:
    files = [files] if isinstance(files, Path) else files
    cache = files[0].parent / "cache"
    return ExampleStore.build(files, fields, cache, Rules(**rules), progress=False)


def stamps(cache: Path) -> dict[str, int]:
    return {str(file): file.stat().st_ino for file in cache.rglob("*.*") if file.is_file()}


def test_a_store_is_found_again(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.txt", "one", "b\0d", "", "two")
    built = build(file, max_bad_share=0.5)
    before = stamps(tmp_path / "cache")
    os.utime(file)  # only the content counts
    found = build(file, max_bad_share=0.5)
    assert stamps(tmp_path / "cache") == before
    assert found.report == built.report
    assert found.sha256 == built.sha256
    assert found.take([1, 0]) == built.take([1, 0]) == {"text": ["two", "one"]}
    assert found.location(1) == f"{file}:4"


def test_a_change_of_a_file_or_of_a_setting_builds_anew(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.txt", "one", "two")
    first = build(file)
    assert list(build(lines(file, "one", "TWO")).column("text")) == ["one", "TWO"]  # as long
    assert len(build(file, limit=1)) == 1
    assert list(first.column("text")) == ["one", "two"]  # what is open stays as it was


@pytest.mark.parametrize("name", ["examples.arrow", "store.json"])
@pytest.mark.parametrize("damage", ["cut", "overwrite", "remove"])
def test_a_damaged_store_is_built_anew(tmp_path: Path, name: str, damage: str) -> None:
    file = lines(tmp_path / "a.txt", "one", "two")
    build(file)
    (victim,) = (tmp_path / "cache").rglob(name)
    content = victim.read_bytes()
    victim.unlink()
    if damage != "remove":
        victim.write_bytes(content[:20] if damage == "cut" else b"?" * len(content))
    assert list(build(file).column("text")) == ["one", "two"]


def test_the_digest_is_of_contents_and_order_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    text = build(lines(tmp_path / "a.txt", "one", "two", "three"))
    split = [
        lines(tmp_path / "b.txt", "one"),
        lines(tmp_path / "other" / "c.txt", "", "two", "three"),
    ]
    table = tmp_path / "d.parquet"
    pq.write_table(pa.table({"body": ["one", "two", "three"]}), table)
    body = (Field("text", "body", "text"),)
    assert build(split).sha256 == text.sha256
    assert build(table, body).sha256 == text.sha256
    assert build(lines(tmp_path / "a.txt", "two", "one", "three")).sha256 != text.sha256
    joined = [build(lines(tmp_path / "a.txt", *texts)) for texts in (("a", "b"), ("asb",))]
    assert joined[0].sha256 != joined[1].sha256  # the places where texts end count too


def test_a_label_of_digits_is_not_a_number(tmp_path: Path) -> None:
    digits = lines(tmp_path / "a.jsonl", json.dumps({"text": "a", "class": "1"}))
    number = lines(tmp_path / "b.jsonl", json.dumps({"text": "a", "class": 1}))
    assert build(digits, LABELLED).sha256 != build(number, LABELLED).sha256


BUILD = """
import sys
from pathlib import Path
from osa.model.records.fields import Field
from osa.model.training.data.report import Rules
from osa.model.training.data.store import ExampleStore

file = Path(sys.argv[1])
fields = (Field("text", "text", "text"),)
for _ in range(5):
    store = ExampleStore.build([file], fields, file.parent / "cache", Rules(), progress=False)
    assert store.take(range(2000))["text"][-1] == "text 1999"
    for part in (file.parent / "cache").glob("*/store.json"):
        part.unlink(missing_ok=True)  # the next round builds anew
ExampleStore.build([file], fields, file.parent / "cache", Rules(), progress=False)
"""


def test_processes_may_build_the_same_store_side_by_side(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.txt", *(f"text {number}" for number in range(2000)))
    command = [sys.executable, "-c", BUILD, str(file)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate(timeout=PATIENCE_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    (directory,) = (tmp_path / "cache").iterdir()
    left = {file.name for file in directory.iterdir()}
    assert left == {"examples.arrow", "problems.jsonl", "store.json"}


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lines(tmp_path / "a.txt", "one", "two")

    def slow(*arguments: Any) -> Any:
        contents = write_examples(*arguments)
        lines(file, "one", "two", "three")
        return contents

    monkeypatch.setattr("osa.model.training.data.cache.write_examples", slow)
    with pytest.raises(DataError, match=r"a\.txt changed while it was read"):
        build(file)
