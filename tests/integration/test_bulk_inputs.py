"""``osa embed``: directories, metadata of others, types of columns, what no table can hold."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Embed

SPARK = b"org.apache.spark.sql.parquet.row.metadata"


def rows_of(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file).drop(["embedding"]).to_pylist()
    return rows


def put(file: Path, content: bytes | list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        pq.write_table(pa.Table.from_pylist(content), file)


def test_a_directory_of_spark_is_its_files_by_name(embed: Embed, tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data / "part-00001-x.snappy.parquet", [{"text": "a dog"}])
    put(data / "part-00000-x.snappy.parquet", [{"text": "a cat"}])
    put(data / "_SUCCESS", b"")
    put(data / "_metadata", b"PAR1")
    put(data / ".part-00000-x.snappy.parquet.crc", b"crc")
    assert embed(data) == 0
    assert rows_of(tmp_path / "out.parquet") == [{"text": "a cat"}, {"text": "a dog"}]
    assert embed(data, options="--resume") == 0, "the same files: it is finished"
    put(data / "part-00002-x.snappy.parquet", [{"text": "a mat"}])
    assert embed(data, options="--resume") == 2, "other files"


@pytest.mark.parametrize("kind", ["parquet", "json", "csv"])
def test_what_the_path_of_a_file_tells_is_a_column(kind: str, embed: Embed, tmp_path: Path) -> None:
    content: dict[str, list[bytes | list[dict[str, Any]]]] = {
        "parquet": [[{"text": "a cat"}], [{"text": "a dog"}]],
        "json": [b'{"text":"a cat"}\n', b'{"text":"a dog"}\n'],
        "csv": [b"text\na cat\n", b"text\na dog\n"],
    }
    for name, one in zip(["day=a%2Fb", "day=__HIVE_DEFAULT_PARTITION__"], content[kind],
                         strict=True):  # fmt: skip
        put(tmp_path / "data" / name / "n=01" / f"part-0.{kind}", one)
    assert embed(tmp_path / "data") == 0
    assert rows_of(tmp_path / "out.parquet") == [
        {"text": "a dog", "day": None, "n": "01"},
        {"text": "a cat", "day": "a/b", "n": "01"},
    ]


REFUSED = [
    ({"_SUCCESS": b""}, "is a directory without files of records"),
    ({"_temporary/0/x": b"", "part-0.csv": b"text\na\n"}, "was not written to its end"),
    ({"_delta_log/0.json": b"", "part-0.csv": b"text\na\n"}, "is a Delta table"),
    ({"more/part-0.csv": b"text\na\n"}, "holds more, which is neither a file nor a directory"),
    ({"text=x/part-0.parquet": [{"text": "a"}]}, "path and file both have a column 'text'"),
    ({"part-0.orc": b"ORC"}, "part-0.orc: unknown kind of file"),
]


@pytest.mark.parametrize(("files", "message"), REFUSED)
def test_other_directories_are_refused(
    files: dict[str, Any],
    message: str,
    embed: Embed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, content in files.items():
        put(tmp_path / "data" / name, content)
    assert embed(tmp_path / "data") == 2
    told = capsys.readouterr().err
    assert message in told
    assert "loading the model" not in told


def test_the_column_of_vectors_has_the_name_that_is_asked_for(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "in.parquet", [{"text": "a cat", "embedding": 1}])
    assert embed(tmp_path / "in.parquet") == 2
    told = capsys.readouterr().err
    assert "has a column 'embedding', which the output adds: give the vectors another name" in told
    assert "loading the model" not in told
    assert embed(tmp_path / "in.parquet", options="--output-column text") == 2
    assert embed(tmp_path / "in.parquet", options="--output-column vector") == 0
    assert pq.read_schema(tmp_path / "out.parquet").names == ["text", "embedding", "vector"]
    assert embed(tmp_path / "in.parquet", options="--output-column other --resume") == 2


def test_pandas_reads_its_index_and_the_vectors(embed: Embed, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a cat", "", "a dog"], "n": [1, 2, 3]})
    frame.set_index(pd.Index(["x", "y", "z"], name="key")).to_parquet(tmp_path / "keyed.parquet")
    frame.to_parquet(tmp_path / "plain.parquet")
    assert embed(tmp_path / "keyed.parquet", options="--skip-bad") == 0
    keyed = pd.read_parquet(tmp_path / "out.parquet")
    assert (keyed.index.name, list(keyed.index)) == ("key", ["x", "z"])
    assert list(keyed.columns) == ["text", "n", "embedding"]
    assert embed(tmp_path / "plain.parquet", output="b.parquet", options="--skip-bad") == 0
    assert list(pd.read_parquet(tmp_path / "b.parquet").index) == [0, 1]
    described = json.loads(pq.read_schema(tmp_path / "b.parquet").metadata[b"pandas"])
    assert described["columns"][-1]["pandas_type"] == "list[float32]"
    assert described["index_columns"][0]["stop"] == 2


def test_datasets_and_spark_are_told_of_the_vectors(embed: Embed, tmp_path: Path) -> None:
    features = {"text": {"dtype": "string", "_type": "Value"}}
    spark = {"type": "struct", "fields": [{"name": "text", "type": "string", "nullable": True,
                                           "metadata": {}}]}  # fmt: skip
    metadata = {
        b"huggingface": json.dumps({"info": {"features": features}, "fingerprint": "0"}).encode(),
        SPARK: json.dumps(spark).encode(),
        b"geo": b"kept",
        b"pandas": b"{damaged",
    }
    table = pa.table({"text": ["a cat"]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "in.parquet")
    assert embed(tmp_path / "in.parquet") == 0
    kept = pq.read_schema(tmp_path / "out.parquet").metadata
    assert kept[b"geo"] == b"kept"
    assert b"pandas" not in kept
    info = json.loads(kept[b"huggingface"])
    assert info["info"]["features"]["embedding"]["length"] == 16
    assert "fingerprint" not in info
    assert [field["name"] for field in json.loads(kept[SPARK])["fields"]] == ["text", "embedding"]
    datasets = pytest.importorskip("datasets")
    found = datasets.Features.from_arrow_schema(pq.read_schema(tmp_path / "out.parquet"))
    assert list(found) == ["text", "embedding"]
    assert found["embedding"].length == 16


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x" * 50, None, "z"], pa.string_view()),
        pa.array([b"x" * 50, None, b"z"], pa.binary_view()),
        pa.array([[1], None, [2, 3]], pa.list_view(pa.int32())),
        pa.array([{"a": "x" * 30}, None, {"a": None}], pa.struct([("a", pa.string_view())])),
        pa.array([["x" * 30], None, []], pa.list_(pa.string_view())),
        pa.array(["x", "y", "x"], pa.large_string()).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_every_type_go_through(column: pa.Array, embed: Embed, tmp_path: Path) -> None:
    text = pa.array(["a cat", "", "a dog"], pa.string_view())
    pq.write_table(pa.table({"text": text, "more": column}), tmp_path / "in.parquet")
    assert embed(tmp_path / "in.parquet", options="--skip-bad") == 0
    expected = column.to_pylist()
    assert rows_of(tmp_path / "out.parquet") == [
        {"text": "a cat", "more": expected[0]},
        {"text": "a dog", "more": expected[2]},
    ]


NAMES = b'{"text": "a cat"}\n{"text": "a dog", "\\ud800": 1}\n'
MANY = b'{"text": "a cat"}\n{"text": "a", %s}\n' % b",".join(
    b'"%x": 1' % number for number in range(200_000)
)
DEEP = b'{"text": "a cat", "a": [1]}\n{"text": "a", "a": %s}\n' % (b"[" * 900 + b"]" * 900)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NAMES, "a.jsonl:2: the name of a column holds a lone surrogate"),
        (MANY, "a.jsonl:2: has 200001 columns, at most 10000 are allowed"),
        (DEEP, ""),
    ],
    ids=["surrogate", "many", "deep"],
)
def test_what_no_table_can_hold_is_a_bad_record(
    content: bytes,
    message: str,
    embed: Embed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(tmp_path / "a.jsonl", content)
    assert embed(tmp_path / "a.jsonl", options="--skip-bad") == 0
    assert message in capsys.readouterr().err
    assert rows_of(tmp_path / "out.parquet")[0]["text"] == "a cat"


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet"])
def test_nul_and_line_ends_are_alike_in_every_format(
    kind: str, embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["a\u2028b\u2029c\x85d", "a\0b", "the mat\rand", "a cat"]
    content: dict[str, Any] = {
        "txt": "\r\n".join(texts).encode(),
        "jsonl": "\r\n".join(json.dumps({"text": text}) for text in texts).encode(),
        "csv": "\r\n".join(["text", *texts]).encode(),
        "parquet": [{"text": text} for text in texts],
    }
    put(tmp_path / f"in.{kind}", content[kind])
    assert embed(tmp_path / f"in.{kind}", options="--skip-bad") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["skipped"] == {"binary": 1}
    assert "NUL: binary content, not text" in printed.err
    found = [row["text"] for row in rows_of(tmp_path / "out.parquet")]
    assert found == [texts[0], texts[2], texts[3]]


def test_a_lone_carriage_return_ends_lines_where_nothing_else_does(
    embed: Embed, tmp_path: Path
) -> None:
    put(tmp_path / "a.txt", b"a cat\ra dog\r")
    put(tmp_path / "b.jsonl", b'{"text": "the mat"}\r{"text": "a mat"}\r')
    put(tmp_path / "c.csv", b'text\r"one\rtwo"\rthree\r')
    assert embed(*(tmp_path / name for name in ("a.txt", "b.jsonl", "c.csv"))) == 0
    found = [row["text"] for row in rows_of(tmp_path / "out.parquet")]
    assert found == ["a cat", "a dog", "the mat", "a mat", "one\rtwo", "three"]


def test_csv_is_read_as_it_is_said_to_be(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "a.csv", b'text:n\n"a, b":\'1\n')
    assert embed(tmp_path / "a.csv", options="--delimiter : --quote none --escape none") == 0
    assert rows_of(tmp_path / "out.parquet") == [{"text": '"a, b"', "n": "'1"}]
    put(tmp_path / "b.tsv", b"text\tn\na, b\t1\n")
    assert embed(tmp_path / "b.tsv", output="b.parquet") == 0
    assert rows_of(tmp_path / "b.parquet") == [{"text": "a, b", "n": "1"}]
    for options, message in (
        ("--delimiter ::", "--delimiter must be one character, got '::'"),
        ("--quote ab", "--quote must be one character, or none, got 'ab'"),
        ('--delimiter " --quote "', "must be different characters"),
    ):
        assert embed(tmp_path / "a.csv", output="c.parquet", options=options) == 2
        assert message in capsys.readouterr().err
    put(tmp_path / "c.txt", b"a cat\n")
    assert embed(tmp_path / "c.txt", output="c.parquet", options="--delimiter ;") == 2
    assert "no input is CSV" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["A.TXT.GZ", "a.Csv.Gz", "A.JSONL.gz"])
def test_suffixes_in_capitals_mean_the_same(name: str, embed: Embed, tmp_path: Path) -> None:
    content = {"t": b"a cat\n", "c": b"text\na cat\n", "j": b'{"text": "a cat"}\n'}
    put(tmp_path / name, gzip.compress(content[name[2].lower()]))
    assert embed(tmp_path / name) == 0
    assert [row["text"] for row in rows_of(tmp_path / "out.parquet")] == ["a cat"]


def test_a_pipe_is_read_once_and_whole(embed: Embed, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    lines = b"".join(b'{"text": "a cat", "n": %d}\n' % number for number in range(3))
    writer = threading.Thread(target=(tmp_path / "pipe.jsonl").write_bytes, args=(lines,))
    writer.start()
    assert embed(tmp_path / "pipe.jsonl") == 0
    writer.join()
    assert [row["n"] for row in rows_of(tmp_path / "out.parquet")] == [0, 1, 2]


def test_windows_are_closed_by_bytes_too(embed: Embed, tmp_path: Path) -> None:
    rows = [{"text": "a cat", "more": "x" * 1000} for _ in range(100)]
    put(tmp_path / "in.parquet", rows)
    put(tmp_path / "in.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    for name in ("in.parquet", "in.jsonl"):
        out = f"{name}.out.parquet"
        assert embed(tmp_path / name, output=out, options="--window-bytes 20000") == 0
        found = pq.ParquetFile(tmp_path / out)
        assert 4 <= found.num_row_groups <= 6
        assert rows_of(tmp_path / out) == rows
