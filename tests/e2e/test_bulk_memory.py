"""``osa embed`` as a process: its memory follows the window, not rows or what they decode to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import PATIENCE_S, make_tiny_model

MIB = 1 << 20
MEASURED = """
import sys
from osa.service.cli import main
code = main()
status = open("/proc/self/status").read()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
sys.exit(code)
"""


def peak_of(file: Path, model: Path, *options: str) -> float:
    """Most memory that the command took [MiB]."""
    output = file.with_name(f"{file.name}.out.parquet")
    command = [sys.executable, "-c", MEASURED, "embed", str(file), "--output", str(output)]
    command += ["--model", str(model), *options]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert pq.read_metadata(output).num_rows == pq.read_metadata(file).num_rows
    return int(done.stdout.split()[-1]) / 1024


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Of one short text."""
    folder = tmp_path_factory.mktemp("base")
    make_tiny_model().save_pretrained(folder / "tiny")
    pq.write_table(pa.table({"text": ["a cat"]}), folder / "one.parquet")
    return peak_of(folder / "one.parquet", folder / "tiny")


def test_a_small_file_of_large_values_is_decoded_a_window_at_a_time(
    base: float, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """512 rows of one value of 1 MiB: 0.1 MiB of file, 512 MiB of columns."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 512), pa.array(["x" * MIB]))
    table = pa.table({"text": ["a cat"] * 512, "more": column.dictionary_decode()})
    pq.write_table(table, tmp_path / "in.parquet")
    assert (tmp_path / "in.parquet").stat().st_size < MIB
    peak = peak_of(tmp_path / "in.parquet", tiny_checkpoint, "--window-bytes", str(8 * MIB))
    assert peak - base < 400, "all at once it takes 1700"


def test_binary_columns_are_read_a_window_at_a_time(
    base: float, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """4096 rows of 64 KiB: 256 MiB in one row group, in pages of 8 MiB."""
    generator = np.random.default_rng(0)
    schema = pa.schema([("text", pa.string()), ("more", pa.binary())])
    options = {"write_batch_size": 128, "use_dictionary": False, "compression": "none"}
    with pq.ParquetWriter(tmp_path / "in.parquet", schema, **options) as writer:
        more = [generator.bytes(1 << 16) for _ in range(4096)]
        writer.write_table(pa.table({"text": ["a cat"] * 4096, "more": more}, schema))
    peak = peak_of(tmp_path / "in.parquet", tiny_checkpoint, "--window-bytes", str(8 * MIB))
    assert peak - base < 400, "all at once it takes 1200"
