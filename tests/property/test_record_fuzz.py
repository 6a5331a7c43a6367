"""Files that are not what they say: bad records or one clear error, never another exception."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.model.errors import OsaError
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.service.bulk.inputs.input_column import InputColumn
from osa.service.bulk.inputs.sources import InputOptions, open_inputs
from osa.service.bulk.windows import WindowLimits, gather_windows

LIMITS = WindowLimits(rows=16, size=4096)
TEXT = (Field("text", "text", "text"),)
ROUNDS = 120


def bulk(file: Path) -> int:
    """Records that ``osa embed`` would compute or name."""
    inputs = open_inputs([str(file)], InputOptions(InputColumn("text")))
    chunks = (chunk for one in inputs.sources for chunk in one.chunks(inputs.columns, LIMITS))
    windows = gather_windows(chunks, inputs.columns, LIMITS)
    count = 0
    for window in windows:
        pq.write_table(window.rows, pa.BufferOutputStream())
        count += len(window.inputs) + len(window.problems)
    return count


def training(file: Path) -> int:
    """Records that ``osa train`` would use or name."""
    return sum(1 for _ in read_file(file, TEXT))


def table() -> pa.Table:
    count = 60
    return pa.table(
        {
            "text": [f"text {number * 7919 % 401}" for number in range(count)],
            "kind": pa.array(["a", "b", None] * (count // 3)).dictionary_encode(),
            "view": pa.array(["x" * (number % 30) for number in range(count)], pa.string_view()),
            "rows": pa.array([[{"a": number}] for number in range(count)]),
            "day": pa.array(list(range(count)), pa.date32()),
        }
    )


def write(file: Path) -> None:
    """A whole file of a kind."""
    if file.suffix == ".parquet":
        pq.write_table(table(), file, row_group_size=25)
    elif file.suffix == ".arrow":
        with pa.ipc.new_file(file, table().schema) as writer:
            writer.write_table(table(), max_chunksize=25)
    elif file.suffix == ".csv":
        rows = "".join(f'"a, {number}",{number},"two\nlines"\n' for number in range(60))
        file.write_text(f"text,n,more\n{rows}")
    else:
        values = [{"text": f"a {n}", "more": [n, {"a": None}], "n": n / 2} for n in range(60)]
        content = "".join(json.dumps(value) + "\n" for value in values).encode()
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def damaged(whole: bytes, generator: random.Random) -> Iterator[bytes]:
    """Bytes flipped, cut, doubled and put in, a few places at a time."""
    for _ in range(ROUNDS):
        content = bytearray(whole)
        for _ in range(generator.choice([1, 1, 3, 20])):
            place, size = generator.randrange(len(content)), generator.choice([1, 2, 8])
            match generator.randrange(4):
                case 0:
                    content[place : place + size] = generator.randbytes(size)
                case 1:
                    del content[place : place + size]
                case 2:
                    content[place:place] = content[place : place + 5 * size]
                case _:
                    content[place:place] = generator.choice(
                        [b'"', b"\\", b"\r", b"\n", b"\0", b"\xff", b"\\ud800", b"{", b"1e999"]
                    )
        yield bytes(content)


@pytest.mark.parametrize("read", [bulk, training])
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv", "a.jsonl", "a.jsonl.gz"])
def test_no_damage_ends_in_another_exception(name: str, read: object, tmp_path: Path) -> None:
    if name == "a.arrow" and read is bulk:
        pytest.skip("osa embed reads no Arrow files")
    assert callable(read)
    file = tmp_path / name
    write(file)
    assert read(file) >= 60
    refused: list[str] = []
    used = 0
    for content in damaged(file.read_bytes(), random.Random(name)):
        file.write_bytes(content)
        try:
            used += read(file) > 0
        except OsaError as error:
            refused.append(str(error))
    assert len(refused) + used > ROUNDS // 2
    assert [text for text in refused if str(file.parent) not in text or "\n" in text] == []
