"""``osa embed --vectors-per-document``: the server's vectors, a row each, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.service.bulk import run_directory
from tests.conftest import WORDS, Embed
from tests.integration.test_bulk_embedding import vectors_of

FEW = "--vectors-per-document 3 --chunk-tokens 6"
ADDED = ["embedding", "vector_index", "vector_weight", "vector_starts", "vector_ends"]


def text_of(words: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS[4:], words))


TEXTS = [text_of(words, words) for words in (40, 3, 90, 13, 200)]
COUNTS = [3, 1, 3, 3, 3]


def write_as(kind: str, directory: Path, texts: list[str] = TEXTS) -> Path:
    file = directory / f"texts.{kind}"
    records: list[dict[str, Any]] = [{"id": n, "text": text} for n, text in enumerate(texts)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
    elif kind == "txt":
        file.write_text("\n".join(texts) + "\n")
    elif kind == "csv":
        file.write_text("id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(texts)))
    else:
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet"])
def test_every_format_gives_the_servers_vectors_in_order(
    kind: str,
    embed: Embed,
    serve: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = serve(model__path=tiny_checkpoint)
    options = f"{FEW} --batch-tokens 120 --rows-per-group 2"
    assert embed(write_as(kind, tmp_path), options=options) == 0
    body = {"inputs": TEXTS, "vectors": 3, "chunking": {"size": 6}, "return_text": True}
    served = client.post("/embed_chunks", json=body).json()
    assert [len(one) for one in served] == COUNTS
    flat = [entry for entries in served for entry in entries]
    table = pq.read_table(tmp_path / "out.parquet")
    wanted = np.array([entry["embedding"] for entry in flat], np.float32)
    assert np.array_equal(vectors_of(tmp_path / "out.parquet"), wanted)
    repeated = [text for text, count in zip(TEXTS, COUNTS, strict=True) for _ in range(count)]
    assert table.column("text").to_pylist() == repeated
    assert table.column("vector_index").to_pylist() == [n for c in COUNTS for n in range(c)]
    weights = table.column("vector_weight").to_pylist()
    assert weights == pytest.approx([entry["weight"] for entry in flat], abs=1e-5)
    for row, entry in zip(table.to_pylist(), flat, strict=True):
        spans = list(zip(row["vector_starts"], row["vector_ends"], strict=True))
        assert [(one["start"], one["end"]) for one in entry["ranges"]] == spans
    assert table.column_names[-5:] == ADDED
    summary = json.loads(capsys.readouterr().out)
    assert (summary["texts"], summary["vectors"]) == (5, 13)
    assert not (tmp_path / "out.parquet.partial").exists()


def test_fewer_dimensions_and_half_precision_are_the_servers_too(
    embed: Embed, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    client = serve(model__path=tiny_checkpoint)
    options = f"{FEW} --dimensions 8 --dtype float16 --output-column v"
    assert embed(write_as("txt", tmp_path), options=options) == 0
    body = {"inputs": TEXTS, "vectors": 3, "chunking": {"size": 6}, "dimensions": 8}
    served = client.post("/embed_chunks", json={**body, "embedding_type": "float16"}).json()
    wanted = np.array([entry["embedding"] for entries in served for entry in entries], np.float16)
    column = pq.read_table(tmp_path / "out.parquet").column("v").combine_chunks()
    found = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, 8)
    assert np.array_equal(found, wanted)


def test_a_run_that_was_stopped_goes_on(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, options = tmp_path / "texts.jsonl", f"{FEW} --rows-per-group 2"
    write_as("jsonl", tmp_path)
    good = file.read_text()
    assert embed(file, output="whole.parquet", options=options) == 0
    file.write_text(good + '{"text": 7}\n')
    assert embed(file, options=options) == 1
    assert len(list((tmp_path / "out.parquet.partial").glob("part-*"))) == 2
    for other in ("", "--vectors-per-document 2 --chunk-tokens 6", "--vectors-per-document 3"):
        assert embed(file, options=f"{other} --rows-per-group 2 --resume") == 2
        told = capsys.readouterr().err
        assert "was begun with" in told
        assert "vectors_per_document" in told or "chunk_tokens" in told
    changed = good.replace(TEXTS[1], TEXTS[1] + " cat")
    file.write_text(changed)
    assert embed(file, options=f"{options} --resume") == 1
    assert "the input has changed since" in capsys.readouterr().err
    file.write_text(good)
    assert embed(file, options=f"{options} --resume") == 0
    tables = [pq.read_table(tmp_path / name) for name in ("out.parquet", "whole.parquet")]
    assert tables[0].equals(tables[1])
    assert embed(file, options=f"{options} --resume") == 0, "it is finished: nothing to do"


def test_what_repeats_is_read_and_written_in_bounded_groups(
    embed: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text stands in the row of each of its vectors: not all of them are held at once."""
    options = f"{FEW} --rows-per-group 2"
    file = write_as("jsonl", tmp_path)
    assert embed(file, output="whole.parquet", options=options) == 0
    monkeypatch.setattr(run_directory, "GROUP_BYTES", 700)
    good = file.read_text()
    file.write_text(good + '{"text": 7}\n')
    assert embed(file, options=options) == 1
    part = pq.ParquetFile(next(iter(sorted((tmp_path / "out.parquet.partial").glob("part-*")))))
    groups = [part.metadata.row_group(place).num_rows for place in range(part.num_row_groups)]
    assert len(groups) > 1
    assert sum(groups) == COUNTS[0] + COUNTS[1]
    file.write_text(good)
    assert embed(file, options=f"{options} --resume") == 0
    tables = [pq.read_table(tmp_path / name) for name in ("out.parquet", "whole.parquet")]
    assert tables[0].equals(tables[1])


def test_a_text_without_tokens_is_a_bad_record(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_as("txt", tmp_path, ["the cat", "   ", "a dog"])
    assert embed(file, options=FEW) == 1
    assert "texts.txt:2: has no tokens" in capsys.readouterr().err
    assert embed(file, options=f"{FEW} --skip-bad") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {"not embedded": 1}
    assert pq.read_table(tmp_path / "out.parquet").column("text").to_pylist() == [
        "the cat",
        "a dog",
    ]


def test_what_is_longer_than_a_batch_is_taken_whole(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_as("txt", tmp_path, [text_of(600), "the cat"])
    limit = "--set model.max_input_length=5000"
    assert embed(file, options=f"{FEW} {limit}") == 0
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["vector_index"] for row in rows] == [0, 1, 2, 0]
    assert sum(row["vector_weight"] for row in rows[:3]) == pytest.approx(1.0)
    assert max(max(row["vector_ends"]) for row in rows[:3]) == len(rows[0]["text"])
    assert json.loads(capsys.readouterr().out)["truncated"] == 0


def test_what_pandas_keeps_describes_every_row(embed: Embed, tmp_path: Path) -> None:
    file = tmp_path / "frame.parquet"
    pandas.DataFrame({"text": TEXTS, "number": [1, 2, 3, 4, 5]}).to_parquet(file)
    assert embed(file, options=FEW) == 0
    frame = pandas.read_parquet(tmp_path / "out.parquet")
    assert frame.index.tolist() == list(range(13))
    assert list(frame.columns) == ["text", "number", *ADDED]
    assert frame["number"].tolist() == [n for n, c in enumerate(COUNTS, 1) for _ in range(c)]
    assert frame["vector_index"].dtype == np.int32
    first = frame[frame["vector_index"] == 0].reset_index()
    assert first["text"].tolist() == TEXTS


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--vectors-per-document 0", "--vectors-per-document must be 1 to 64, got 0"),
        ("--vectors-per-document 65", "--vectors-per-document must be 1 to 64, got 65"),
        ("--chunk-tokens 9", "--chunk-tokens needs --vectors-per-document"),
        (f"{FEW} --prompt-name query", "--prompt-name goes before whole texts"),
        ("--vectors-per-document 2 --chunk-tokens 0", "--chunk-tokens must be at least 1, got 0"),
        (f"{FEW} --output-column vector_index", "the output adds a column 'vector_index'"),
    ],
)
def test_what_cannot_be_is_refused(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, told: str
) -> None:
    assert embed(write_as("txt", tmp_path), options=options) == 2
    assert told in capsys.readouterr().err


def test_columns_of_the_input_stay_what_they_are(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "the cat", "vector_weight": 7}\n')
    assert embed(tmp_path / "a.jsonl", options=FEW) == 2
    told = "the output adds a column 'vector_weight' with --vectors-per-document"
    assert told in capsys.readouterr().err
    assert embed(tmp_path / "a.jsonl") == 0


def test_several_processes_do_not_share_chunks(
    embed: Embed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert embed(write_as("txt", tmp_path), options=FEW) == 2
    assert "start one process for --vectors-per-document" in capsys.readouterr().err
