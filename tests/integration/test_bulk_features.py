"""``osa embed`` of feature records: the server's vectors, bad records, refusals, resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.service.cli import main
from tests.feature_model import INPUTS, LONGEST, embed

RECORDS = [{"id": n, "features": rows} for n, rows in enumerate(INPUTS)]


def run(file: Path, checkpoint: Path, *options: str) -> int:
    command = ["embed", str(file), "--output", str(file.parent / "out.parquet")]
    settings = ["--model", str(checkpoint), "--set", "model.dtype=float32"]
    return main([*command, *settings, *options])


def write(file: Path, records: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
    else:
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def vectors_of(file: Path) -> np.ndarray:
    column = pq.read_table(file).column("embedding").to_pylist()
    return np.array(column, dtype=np.float32)


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_records_have_the_servers_vectors_and_keep_their_columns(
    name: str,
    feature_checkpoint: Path,
    feature_client: httpx.Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write(tmp_path / name, RECORDS)
    options = ("--rows-per-group", "2", "--batch-tokens", "9")
    assert run(file, feature_checkpoint, *options) == 0
    found = tmp_path / "out.parquet"
    np.testing.assert_array_equal(vectors_of(found), embed(feature_client, INPUTS))
    table = pq.read_table(found)
    assert table.column("id").to_pylist() == [0, 1, 2, 3]
    kept = table.column("features").to_pylist()
    assert [json.loads(rows) if name == "in.jsonl" else rows for rows in kept] == INPUTS
    summary = json.loads(capsys.readouterr().out)
    assert (summary["texts"], summary["tokens"]) == (4, sum(map(len, INPUTS)))
    assert run(file, feature_checkpoint, *options, "--resume") == 0


@pytest.mark.parametrize("kind", [pa.int16(), pa.float64(), pa.float16()])
def test_a_table_may_hold_any_numbers(
    kind: pa.DataType, feature_checkpoint: Path, feature_client: httpx.Client, tmp_path: Path
) -> None:
    rows = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9]]]
    column = pa.array(np.array(rows[0]).astype(kind.to_pandas_dtype()).tolist(), pa.list_(kind))
    sequences = pa.ListArray.from_arrays([0, 1, 2], column)
    pq.write_table(pa.table({"series": sequences}), tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", feature_checkpoint, "--column", "series") == 0
    expected = embed(feature_client, [[[1, 2, 3]], [[4, 5, 6]]])
    np.testing.assert_array_equal(vectors_of(tmp_path / "out.parquet"), expected)


BAD = [
    ([[1, 2]], "in.jsonl:2: has rows of 2 numbers, this model takes 3"),
    ([[1, 2, 3], [1]], "in.jsonl:2: column 'features' is ragged: row 2 has 1 numbers"),
    ([[1, 2, float("nan")]], "in.jsonl:2: column 'features' must hold finite float32, got nan"),
    ([[1, 2, "3"]], "in.jsonl:2: column 'features' must hold numbers"),
    ("a cat", "in.jsonl:2: column 'features' must be a list of rows"),
    (None, "in.jsonl:2: column 'features' is null"),
    ([], "in.jsonl:2: column 'features' holds no number"),
]


@pytest.mark.parametrize(("features", "message"), BAD)
def test_bad_records_are_refused_by_place_or_skipped(
    features: Any,
    message: str,
    feature_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = [RECORDS[0], {"id": 9, "features": features}, RECORDS[1]]
    file = write(tmp_path / "in.jsonl", records)
    assert run(file, feature_checkpoint) == 1
    assert message in capsys.readouterr().err
    assert run(file, feature_checkpoint, "--skip-bad", "--resume") == 0
    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == [0, 1]


def test_long_sequences_are_cut_and_counted_or_refused(
    feature_checkpoint: Path,
    feature_client: httpx.Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [[n / 20, 1.0, 0.5] for n in range(LONGEST + 2)]
    file = write(tmp_path / "in.jsonl", [*RECORDS, {"id": 4, "features": rows}])
    assert run(file, feature_checkpoint, "--set", "model.auto_truncate=false") == 1
    assert "has 14 rows, at most 12 are allowed" in capsys.readouterr().err
    assert run(file, feature_checkpoint) == 0
    assert json.loads(capsys.readouterr().out)["truncated"] == 1
    expected = embed(feature_client, [*INPUTS, rows])
    np.testing.assert_array_equal(vectors_of(tmp_path / "out.parquet"), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("in.csv", (), "features, which are read from JSON lines and .parquet, not from csv"),
        ("in.txt", (), "not from txt"),
        ("in.parquet", (), "column 'features' must hold lists of lists of numbers, got string"),
        ("in.jsonl", ("--prompt-name", "query"), "--prompt-name goes before texts"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_loaded(
    name: str,
    options: tuple[str, ...],
    message: str,
    feature_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = RECORDS if name == "in.jsonl" else [{"features": "a cat"}]
    assert run(write(tmp_path / name, records), feature_checkpoint, *options) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "loading the model" not in told


def test_a_collection_says_what_it_takes(feature_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "plain").symlink_to(feature_checkpoint)
    assert run(write(tmp_path / "in.jsonl", RECORDS), tmp_path / "models") == 0


def test_a_feature_model_is_calibrated_by_features(
    feature_checkpoint: Path,
    serve: Callable[..., httpx.Client],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Path(shutil.copytree(feature_checkpoint, tmp_path / "model"))
    rows = np.random.default_rng(1).standard_normal((120, 5, 3)).round(3).tolist()
    file = write(tmp_path / "in.jsonl", [{"features": sequence} for sequence in rows])
    command = ["calibrate", "--model", str(model)]
    assert main([*command, "--texts", str(file)]) == 2
    assert "takes features" in capsys.readouterr().err
    bad = write(tmp_path / "bad.jsonl", [{"features": [[1, "a", 2]]}])
    assert main([*command, "--features", str(bad)]) == 1
    assert "bad.jsonl:1: column 'features' must hold numbers" in capsys.readouterr().err
    wide = write(tmp_path / "wide.jsonl", [{"features": [[1, 2]]}] * 100)
    assert main([*command, "--features", str(wide)]) == 1
    assert "this model takes rows of 3 numbers" in capsys.readouterr().err
    assert main([*command, "--features", str(file)]) == 0
    client = serve(model__path=model, model__dtype="float32")
    small = embed(client, rows[:8], embedding_type="int8")
    exact = embed(client, rows[:8])
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert small.shape == exact.shape
    assert np.abs(small).max() > 0
