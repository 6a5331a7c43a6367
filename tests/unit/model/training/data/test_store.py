"""The store: accepted and refused records, and random access."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.training.data.report import Rules
from osa.model.training.data.store import ExampleStore

TEXT = (Field("text", "text", "text"),)
PAIRS = (
    Field("text", "sentence", "text"),
    Field("label", "class", "label", optional=True),
    Field("series", "x", "features", optional=True),
)


def lines(file: Path, *content: str) -> Path:
    file.write_text("".join(f"{line}\n" for line in content))
    return file


def objects(file: Path, *records: dict[str, Any]) -> Path:
    return lines(file, *(json.dumps(record) for record in records))


def build(
    files: Path | list[Path],
    fields: tuple[Field, ...] = TEXT,
    cache: Path | None = None,
    **rules: Any,
) -> ExampleStore:
    files = [files] if isinstance(files, Path) else files
    cache = cache or files[0].parent / "cache"
    return ExampleStore.build(files, fields, cache, Rules(**rules), progress=False)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten lines: seven good, one empty, two bad."""
    good = [f"text {number}" for number in range(7)]
    return lines(tmp_path / "mixed.txt", *good[:3], "b\0d", "", "x" * 99, *good[3:])


def test_examples_come_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "b.txt", "one", "", "two"), lines(tmp_path / "a.txt", "three")
    store = build([first, second])
    assert len(store) == 3
    assert list(store.column("text")) == ["one", "two", "three"]
    assert store.take([2, 0, 2]) == {"text": ["three", "one", "three"]}
    assert store.location(1) == f"{first}:3"
    assert store.location(2) == f"{second}:1"


def test_every_kind_of_value_comes_back_as_it_was(tmp_path: Path) -> None:
    file = objects(
        tmp_path / "a.jsonl",
        {"sentence": "ü\u2028ä", "class": -7, "x": [[1, 2.5]]},
        {"sentence": "b", "x": [[3, 4], [5, 6]]},
        {"sentence": "c", "class": 2**62},
    )
    store = build(file, PAIRS)
    taken = store.take(np.array([2, 1, 0]))
    assert taken["text"] == ["c", "b", "ü\u2028ä"]
    assert taken["label"] == [2**62, None, -7]
    assert taken["series"][0] is None
    assert taken["series"][1].tolist() == [[3, 4], [5, 6]]
    assert taken["series"][2].dtype == np.float32
    taken["series"][2] += 1  # writable, and not the store's own
    assert next(iter(store.column("series"))).tolist() == [[1, 2.5]]


def test_labels_that_are_strings_stay_strings(tmp_path: Path) -> None:
    file = objects(tmp_path / "a.jsonl", {"sentence": "a", "class": "01"})
    assert build(file, PAIRS).take([0])["label"] == ["01"]


def test_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    store = build(lines(tmp_path / "a.txt", "one", "two"))
    for rows in ([2], [-1], [0.0], [[0]], [True]):
        with pytest.raises(IndexError, match="rows are integers from 0 to 1"):
            store.take(rows)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        store.location(2)
    with pytest.raises(KeyError, match="no field 'txt' among text"):
        store.column("txt")
    assert store.take([]) == {"text": []}


def test_bad_records_are_left_out_listed_and_counted(mixed: Path) -> None:
    store = build(mixed, max_bad_share=0.5, max_record_bytes=50)
    assert list(store.column("text")) == [f"text {number}" for number in range(7)]
    report = store.report
    assert (report.total, report.kept, report.empty) == (9, 7, 1)
    assert report.bad == {"binary": 1, "too long": 1}
    assert report.first == (
        f"{mixed}:4: byte 2 is NUL: binary content, not text",
        f"{mixed}:6: 99 bytes, longer than max_record_bytes (50)",
    )
    assert str(report).startswith("7 of 9 records kept, 1 empty lines; bad: binary 1, too long 1")
    listed = [json.loads(line) for line in store.problems.read_text().splitlines()]
    assert [(entry["file"], entry["line"]) for entry in listed] == [
        (str(mixed), 4),
        (str(mixed), 6),
    ]
    assert "NUL" in listed[0]["reason"]


def test_refusing_stops_at_the_first_bad_record(mixed: Path) -> None:
    with pytest.raises(DataError) as caught:
        build(mixed, on_bad="refuse", max_bad_share=1.0)
    assert str(caught.value) == f"{mixed}:4: byte 2 is NUL: binary content, not text"
    assert caught.value.code == "data"


def test_too_many_bad_records_stop_with_what_to_do(mixed: Path) -> None:
    with pytest.raises(DataError) as caught:
        build(mixed, max_bad_share=0.2, max_record_bytes=50)
    message = str(caught.value)
    assert "2 of 9 records are bad (22.22%, allowed are 20.00%): binary 1, too long 1" in message
    assert f"\n  {mixed}:4: byte 2 is NUL" in message
    assert "raise max_bad_share" in message
    (log,) = (mixed.parent / "cache").rglob("problems.jsonl")
    assert str(log) in message
    assert len(log.read_text().splitlines()) == 2


def test_the_share_itself_is_allowed(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.txt", *["good"] * 99, "b\0d")
    assert len(build(file)) == 99
    with pytest.raises(DataError, match="2 of 100 records are bad"):
        build(lines(file, *["good"] * 98, "b\0d", "b\0d"))


def test_a_file_without_a_good_record_is_given_up_early(tmp_path: Path) -> None:
    records = [{"txt": "a"}] * 3000
    with pytest.raises(DataError, match="none of the first 1000 records is good") as caught:
        build(objects(tmp_path / "a.jsonl", *records))
    assert "has no column 'text'; it has 'txt'" in str(caught.value)


def test_no_example_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no example in .*a\.txt: 0 bad records, 2 empty lines"):
        build(lines(tmp_path / "a.txt", "", " "))
    with pytest.raises(DataError, match=r"no example in .*a\.txt: 1 bad records"):
        build(lines(tmp_path / "a.txt", "b\0d"), max_bad_share=1.0)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("class", [1, 2, "3"], "column 'class' is str, in earlier records int"),
        ("x", [[[1, 2]], [[1, 2]], [[1]]], "column 'x' has rows of 1 numbers, in earlier records"),
    ],
)
def test_labels_and_features_agree_throughout(
    tmp_path: Path, field: str, values: list[Any], message: str
) -> None:
    records = [{"sentence": "a", field: value} for value in values]
    with pytest.raises(DataError, match=rf"a\.jsonl:3: {message}"):
        build(objects(tmp_path / "a.jsonl", *records), PAIRS, on_bad="refuse")


def test_the_limit_stops_reading(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.txt", "one", "", "two", "b\0d")
    store = build([file, lines(tmp_path / "b.txt", "never")], limit=2, on_bad="refuse")
    assert list(store.column("text")) == ["one", "two"]
    assert store.report.total == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_bad": "ignore"}, "on_bad must be 'skip' or 'refuse', got 'ignore'"),
        ({"max_bad_share": 1.5}, "max_bad_share must be from 0 to 1, got 1.5"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"max_record_bytes": 0}, "max_record_bytes must be from 1 to"),
        ({"fields": TEXT * 2}, "two fields have the same name"),
        ({"fields": (Field("text", "text", "text", optional=True),)}, "must not be optional"),
        ({"files": []}, "no files"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = {"files": [lines(tmp_path / "a.txt", "one")], "fields": TEXT, **changes}
    with pytest.raises(ConfigError, match=message):
        build(cache=tmp_path / "cache", **values)


def test_a_file_that_cannot_be_read_is_refused_before_any_is(tmp_path: Path) -> None:
    good = lines(tmp_path / "a.txt", "one")
    with pytest.raises(ConfigError, match=r"cannot read .*none\.txt: it does not exist"):
        build([good, tmp_path / "none.txt"])
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.txt: it is not a regular file"):
        build([good, tmp_path / "folder.txt"])
    with pytest.raises(ConfigError, match=r"cannot write to .*a\.txt"):
        build(good, cache=good)
    assert not (tmp_path / "cache").exists()


def test_rows_of_many_batches_are_read_at_random(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"this is the text of number {number}\n" for number in range(50_000)))
    store = build(file)
    generator = np.random.default_rng(0)
    for _ in range(9):
        rows = generator.integers(0, len(store), 256)
        assert store.take(rows)["text"] == [f"this is the text of number {row}" for row in rows]
