"""Parquet and Arrow files: the same examples, problems and refusals as for lines."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.model.records.record import Problem, Record

FIELDS = (Field("text", "text", "text"), Field("label", "label", "label", optional=True))
SERIES = (Field("series", "x", "features"),)


def parquet(file: Path, table: pa.Table) -> Path:
    pq.write_table(table, file, row_group_size=1000)
    return file


def arrow_file(file: Path, table: pa.Table) -> Path:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return file


def arrow_stream(file: Path, table: pa.Table) -> Path:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    return file


FORMATS = pytest.mark.parametrize(
    ("write", "name"),
    [(parquet, "a.parquet"), (arrow_file, "a.arrow"), (arrow_stream, "a.feather")],
)
Write = Callable[[Path, pa.Table], Path]


def problems(file: Path, fields: tuple[Field, ...], limit: int = 1 << 20) -> list[str]:
    found = [item for item in read_file(file, fields, limit) if isinstance(item, Problem)]
    return [str(problem).removeprefix(f"{file.parent}/") for problem in found]


@FORMATS
def test_rows_come_in_order_with_their_numbers(tmp_path: Path, write: Write, name: str) -> None:
    values = [f" text {number}" for number in range(2500)]
    table = pa.table({"more": [1] * 2500, "label": list(range(2500)), "text": values})
    found = list(read_file(write(tmp_path / name, table), FIELDS))
    assert found == [
        Record(number + 1, {"text": f"text {number}", "label": number}) for number in range(2500)
    ]


@FORMATS
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())],
)
def test_every_type_of_string_is_text(
    tmp_path: Path, write: Write, name: str, kind: pa.DataType
) -> None:
    table = pa.table({"text": pa.array(["a", "ü\u2028b", "a"]).cast(kind)})
    found = list(read_file(write(tmp_path / name, table), FIELDS))
    assert [item.values["text"] for item in found if isinstance(item, Record)] == [
        "a", "ü\u2028b", "a"]  # fmt: skip


@FORMATS
def test_a_missing_column_is_refused_at_once(tmp_path: Path, write: Write, name: str) -> None:
    file = write(tmp_path / name, pa.table({"body": ["a"], "title": ["b"]}))
    with pytest.raises(DataError, match=rf"{name} has no column 'text'; it has 'body', 'title'"):
        list(read_file(file, FIELDS))


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(DataError, match=r"a\.arrow has 2 columns 'text'"):
        list(read_file(arrow_file(tmp_path / "a.arrow", table), FIELDS))


@FORMATS
def test_bad_values_are_problems_of_their_row(tmp_path: Path, write: Write, name: str) -> None:
    table = pa.table({"text": ["good", None, " ", "b\0c", "x" * 11], "label": [1.0] * 5})
    file = write(tmp_path / name, table)
    assert problems(file, FIELDS[:1], limit=10) == [
        f"{name}:2: column 'text' is null",
        f"{name}:3: column 'text' is empty",
        f"{name}:4: byte 2 of column 'text' is NUL: binary content, not text",
        f"{name}:5: column 'text' has 11 bytes, more than max_record_bytes (10)",
    ]
    assert problems(file, FIELDS)[0] == (
        f"{name}:1: column 'label' must be a string or an integer, got the number 1.0"
    )


@FORMATS
def test_a_string_that_is_not_utf_8_is_a_problem_of_its_row(
    tmp_path: Path, write: Write, name: str
) -> None:
    raw = pa.array([b"good", "Käse".encode("latin-1"), b"good"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())  # says it is UTF-8, and is not
    file = write(tmp_path / name, pa.table({"text": text}))
    assert problems(file, FIELDS) == [
        f"{name}:2: byte 2 of column 'text' (0xe4) is not UTF-8, which is expected"
    ]


@FORMATS
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64(), pa.int32()])
def test_features_are_lists_of_lists_of_any_number(
    tmp_path: Path, write: Write, name: str, kind: pa.DataType
) -> None:
    rows = pa.array([[[1, 2], [3, 4]], [[5, 6]]], pa.list_(pa.list_(kind)))
    found = list(read_file(write(tmp_path / name, pa.table({"x": rows})), SERIES))
    assert [item.values["series"].tolist() for item in found if isinstance(item, Record)] == [
        [[1, 2], [3, 4]], [[5, 6]]]  # fmt: skip


@FORMATS
def test_bad_features_are_problems(tmp_path: Path, write: Write, name: str) -> None:
    rows = pa.array([[[1.0, 2.0], [3.0]], [[float("nan")]], [[1.0] * 9]])
    assert problems(write(tmp_path / name, pa.table({"x": rows})), SERIES, limit=32) == [
        f"{name}:1: column 'x' is ragged: row 2 has 1 numbers, row 1 has 2",
        f"{name}:2: column 'x' must hold finite float32, got nan in row 1, place 1",
        f"{name}:3: column 'x' has 36 bytes, more than max_record_bytes (32)",
    ]


@FORMATS
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, write: Write, name: str) -> None:
    table = pa.table({"text": [f"text {number * 7919 % 4001}" for number in range(4000)]})
    file = write(tmp_path / name, table)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello, this is some plain text\n" * 9):
        file.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: damaged, or no (Parquet|Arrow) file"):
            list(read_file(file, FIELDS))


@FORMATS
def test_damage_anywhere_is_refused_or_makes_problems_and_no_other_error(
    tmp_path: Path, write: Write, name: str
) -> None:
    table = pa.table({"text": [f"text {number * 7919 % 401}" for number in range(400)]})
    file = write(tmp_path / name, table)
    whole = file.read_bytes()
    generator = random.Random(0)
    refusals = []
    for _ in range(100):
        content = bytearray(whole)
        content[generator.randrange(len(content))] ^= generator.randrange(1, 256)
        file.write_bytes(content)
        try:
            assert len(list(read_file(file, FIELDS))) <= 400
        except DataError as error:
            refusals.append(str(error))
    assert 0 < len(refusals) < 100
    assert all(f"{name}: damaged" in text or f"{name} has no column" in text for text in refusals)


def test_a_page_that_is_damaged_is_refused_with_the_row(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {number * 7919 % 4001}" for number in range(4000)]})
    file = parquet(tmp_path / "a.parquet", table)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(range(250)) * 12
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: damaged, or no Parquet file after row \d+"):
        list(read_file(file, FIELDS))
