"""``osa embed``: every format, the server's own vectors, order, bad records, refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Embed
from tests.head_models import make_head_model

TEXTS = [
    "the cat sat on the mat",
    "a dog ran",
    " the mat ",
    "cat " * 90,
    "a\u2028dog\u0085sat",
    "the cat, the dog and the mat",
]


def vectors_of(file: Path) -> np.ndarray:
    column = pq.read_table(file).column("embedding").combine_chunks()
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def write_as(kind: str, directory: Path) -> Path:
    """``TEXTS`` and their numbers in a file of a kind."""
    file = directory / f"texts.{kind}"
    records: list[dict[str, Any]] = [{"id": n, "text": text} for n, text in enumerate(TEXTS)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
        return file
    if kind.startswith("txt"):
        content = "\n".join(TEXTS) + "\n"
    elif kind == "csv":
        content = "id,text\r\n" + "".join(f'{row["id"]},"{row["text"]}"\r\n' for row in records)
    else:
        content = "".join(json.dumps(record) + "\n" for record in records)
    raw = content.encode()
    file.write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    return file


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "jsonl", "jsonl.gz", "csv", "parquet"])
def test_every_format_gives_the_servers_vectors_in_order(
    kind: str,
    embed: Embed,
    serve: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = serve(model__path=tiny_checkpoint)
    assert embed(write_as(kind, tmp_path), options="--batch-tokens 40 --rows-per-group 4") == 0
    served = client.post("/embed", json={"inputs": TEXTS, "encoding_format": "bytes"})
    expected = np.frombuffer(served.content, "<f4").reshape(len(TEXTS), -1)
    file = tmp_path / "out.parquet"
    assert np.array_equal(vectors_of(file), expected)
    table = pq.read_table(file)
    assert table.column("text").to_pylist() == TEXTS
    if not kind.startswith("txt"):
        numbers = [str(n) for n in range(6)] if kind == "csv" else list(range(6))
        assert table.column("id").to_pylist() == numbers
    assert pq.ParquetFile(file).num_row_groups == 2
    summary = json.loads(capsys.readouterr().out)
    assert (summary["texts"], summary["tokens"]) == (6, int(served.headers["x-compute-tokens"]))
    assert not (tmp_path / "out.parquet.partial").exists()


def test_fewer_dimensions_and_half_precision_are_the_servers_too(
    embed: Embed, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    client = serve(model__path=tiny_checkpoint)
    assert embed(write_as("txt", tmp_path), options="--dimensions 8 --dtype float16") == 0
    body = {"inputs": TEXTS, "dimensions": 8, "embedding_type": "float16"}
    served = client.post("/embed", json={**body, "encoding_format": "bytes"})
    expected = np.frombuffer(served.content, "<f2").reshape(len(TEXTS), 8)
    found = vectors_of(tmp_path / "out.parquet")
    assert found.dtype == np.float16
    assert np.array_equal(found, expected)


def test_prompts_and_limits_are_the_servers_too(
    embed: Embed,
    serve: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts = '{"query":"dog:"}'
    client = serve(model__path=tiny_checkpoint, model__prompts=prompts, model__max_input_length=8)
    file, limit = write_as("txt", tmp_path), "--set model.max_input_length=8 --skip-bad"
    query = f"--prompt-name query --set model.prompts={prompts} {limit}"
    assert embed(file, options=query) == 0
    served = client.post("/embed", json={"inputs": TEXTS, "prompt_name": "query"}).json()
    assert np.array_equal(vectors_of(tmp_path / "out.parquet"), np.array(served, np.float32))
    assert json.loads(capsys.readouterr().out)["truncated"] == 3

    strict = f"{limit} --set model.auto_truncate=false"
    assert embed(file, output="strict.parquet", options=strict) == 0
    assert pq.read_table(tmp_path / "strict.parquet").num_rows == 4
    printed = capsys.readouterr()
    assert json.loads(printed.out)["skipped"] == {"not embedded": 2}
    assert "texts.txt:4: has 92 tokens, at most 8 are allowed without truncation" in printed.err
    assert embed(file, output="other.parquet", options="--prompt-name passage") == 2
    assert "one of the model's prompts (none), got 'passage'" in capsys.readouterr().err


def test_several_files_follow_one_another_with_the_columns_of_all(
    embed: Embed, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"text": "a cat", "score": 1}\n\n{"text": "a dog"}\n')
    second.write_text('{"text": "the mat", "score": 0.5, "tags": ["x", {"y": 1}]}\n')
    assert embed(first, second) == 0
    assert pq.read_table(tmp_path / "out.parquet").drop(["embedding"]).to_pylist() == [
        {"text": "a cat", "score": 1.0, "tags": None},
        {"text": "a dog", "score": None, "tags": None},
        {"text": "the mat", "score": 0.5, "tags": '["x", {"y": 1}]'},
    ]


def test_columns_of_a_table_keep_their_types(embed: Embed, tmp_path: Path) -> None:
    table = pa.table(
        {
            "day": pa.array([1, 2], pa.date32()),
            "body": pa.array(["a cat", "a dog"], pa.large_string()).dictionary_encode(),
            "pair": pa.array([[1, 2], None], pa.list_(pa.int16())),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    assert embed(tmp_path / "in.parquet", options="--column body") == 0
    kept = pq.read_table(tmp_path / "out.parquet").drop(["embedding"])
    assert kept.schema.field("day").type == pa.date32()
    assert kept.schema.field("pair").type == pa.list_(pa.int16())
    assert kept.to_pylist() == table.to_pylist()


BAD = {
    "a.txt": (b"a cat\n\nb\xff\n", ["a.txt:2: column 'text' is empty", "a.txt:3: byte 2 (0xff)"]),
    "a.jsonl": (
        b'{"text": "a cat"}\n{"text"\n{"text": 7}\n{"id": 1}\n{"text": null}\n[1]\n',
        [
            "a.jsonl:2: is not JSON",
            "a.jsonl:3: column 'text' must be a string, got the number 7",
            "a.jsonl:4: has no column 'text'",
            "a.jsonl:5: column 'text' is null",
            "a.jsonl:6: must be a JSON object",
        ],
    ),
    "a.csv": (
        b'text,id\na cat,1\na,b,c\n"two\nlines\xff",2\n"x"y,3\n"",4\n"open,5\n',
        [
            "a.csv:3: has 3 fields, the header has 2",
            "a.csv:5: byte 6 (0xff)",
            "a.csv:6: is not CSV",
            "a.csv:7: column 'text' is empty",
            "a.csv:8: is not CSV",
        ],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_refused_by_place_or_skipped_and_counted(
    name: str, embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, reasons = BAD[name]
    (tmp_path / name).write_bytes(content)
    assert embed(tmp_path / name) == 1
    assert reasons[0] in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()
    assert embed(tmp_path / name, options="--resume --skip-bad") == 0
    printed = capsys.readouterr()
    assert [reason for reason in reasons if reason not in printed.err] == []
    assert pq.read_table(tmp_path / "out.parquet").column("text").to_pylist() == ["a cat"]
    assert sum(json.loads(printed.out)["skipped"].values()) == len(reasons)


def test_nulls_and_bad_utf8_of_a_table_are_bad_rows(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = pa.array([b"a cat", None, b"\xff", b"a dog"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": raw, "id": [1, 2, 3, 4]}), tmp_path / "in.parquet")
    assert embed(tmp_path / "in.parquet") == 1
    assert "in.parquet:2: column 'text' is null" in capsys.readouterr().err
    assert embed(tmp_path / "in.parquet", options="--resume --skip-bad") == 0
    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == [1, 4]
    assert "in.parquet:3: byte 1 of column 'text' (0xff)" in capsys.readouterr().err


REFUSED = [
    ("a.txt", b"a cat\n", "--dimensions 17", 2, "--dimensions must be 1 to 16, got 17"),
    ("a.txt", b"a cat\n", "--batch-tokens 0", 2, "--batch-tokens must be at least 1"),
    ("a.txt", b"", "", 1, "no text in"),
    ("a.doc", b"a cat\n", "", 2, "unknown kind of file"),
    ("a.csv", b"id,body\n1,a cat\n", "", 2, "must have a column 'text', and none twice"),
    ("a.parquet", b"PAR1", "", 1, "is no Parquet file"),
    ("a.jsonl", b'{"text": "a", "embedding": 1}\n', "", 2, "has a column 'embedding'"),
    ("a.txt", b"a cat\n", "--set model.engine=aoti", 2, "a checkpoint runs by eager, compile"),
]


@pytest.mark.parametrize(("name", "content", "options", "code", "message"), REFUSED)
def test_what_cannot_be_is_refused(
    name: str,
    content: bytes,
    options: str,
    code: int,
    message: str,
    embed: Embed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(content)
    assert embed(tmp_path / name, options=options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_a_reranker_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from osa.service.cli import main

    texts = write_as("jsonl", tmp_path)
    output = ["--output", str(tmp_path / "out.parquet")]
    model = ["--model", str(make_head_model(tmp_path, "reranker"))]
    assert main(["embed", str(texts), *output, *model]) != 0
    assert "this model is a reranker" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()
