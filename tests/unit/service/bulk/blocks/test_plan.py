"""Blocks: the records of the input, in order, whatever the pieces; named by what they hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.model.records.errors import DataError
from osa.service.bulk.blocks.plan import BlockReader, plan_tasks
from osa.service.bulk.inputs.input_column import InputColumn
from osa.service.bulk.inputs.sources import InputOptions, Inputs, open_inputs
from osa.service.bulk.windows import Window, WindowLimits, gather_windows

COUNT = 90
LIMITS = WindowLimits(rows=7)


def open_as(kind: str, directory: Path, bad: bool = False) -> Inputs:
    """Numbered records of a kind, with bad ones among them."""
    file = directory / f"in.{kind}"
    records = [{"id": str(n), "text": f"text {n} " * (n % 5 + 1)} for n in range(COUNT)]
    if kind == "parquet":
        rows = [{**row, "text": None if bad and int(row["id"]) % 31 == 30 else row["text"]}
                for row in records]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=11)
    else:
        lines = ["id,text"] if "csv" in kind else []
        for number, row in enumerate(records):
            if bad and number % 31 == 30:
                lines.append("\udcff" if kind == "txt" else '"open')
            if kind == "txt":
                lines.append(row["text"])
            else:
                lines.append(f'{number},"{row["text"]}"' if "csv" in kind else json.dumps(row))
        raw = "\n".join([*lines, ""]).encode(errors="surrogateescape")
        file.write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    return open_inputs([str(file)], InputOptions(InputColumn("text")))


def read_all(inputs: Inputs, size: int) -> tuple[list[str], list[Window], list[str]]:
    """Names and windows of all blocks, and every bad record with its line in the file."""
    reader = BlockReader(inputs, LIMITS, skip_bad=True)
    names, windows, problems = [], [], []
    for task in plan_tasks(inputs.sources, size):
        for name, window in reader.blocks(task):
            names.append(name)
            windows.append(window)
            problems += [str(reader.place(task, one)) for one in window.problems]
    return names, windows, problems


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("size", [100, 1000, 1 << 20])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "csv", "parquet"])
def test_blocks_hold_what_one_process_reads(
    tmp_path: Path, kind: str, size: int, bad: bool
) -> None:
    inputs = open_as(kind, tmp_path, bad)
    chunks = list(inputs.sources[0].chunks(inputs.columns, LIMITS))
    whole = list(gather_windows(iter(chunks), inputs.columns, LIMITS))
    names, windows, problems = read_all(inputs, size)
    assert names == sorted(names)
    assert len(set(names)) == len(names)
    rows = pa.concat_tables([window.rows for window in windows])
    assert rows.equals(pa.concat_tables([window.rows for window in whole]))
    texts = [value for window in windows for value in window.inputs]
    assert texts == [value for window in whole for value in window.inputs]
    assert problems == [str(one) for window in whole for one in window.problems]
    assert bool(problems) == bad
    splits = kind in ("txt", "jsonl", "parquet") and size < 1000
    assert (len(plan_tasks(inputs.sources, size)) > 1) == splits or size == 1000


def test_no_two_tasks_read_the_same_records_and_small_files_are_read_together(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "many"
    directory.mkdir()
    for number in range(40):
        (directory / f"{number:02d}.txt").write_text(f"text {number}\n")
    (directory / "99.txt").write_text("the last\n" * 100)
    again = str(directory / "99.txt")
    inputs = open_inputs([str(directory), again], InputOptions(InputColumn("text")))
    tasks = plan_tasks(inputs.sources, 200)
    assert len(tasks) < 15
    reader = BlockReader(inputs, LIMITS, skip_bad=False)
    texts = [text for task in tasks for _, window in reader.blocks(task) for text in window.inputs]
    assert texts == [f"text {number}" for number in range(40)] + ["the last"] * 200


def test_a_name_is_that_of_the_records_and_changes_with_them(tmp_path: Path) -> None:
    inputs = open_as("jsonl", tmp_path)
    names, _, _ = read_all(inputs, 1000)
    assert read_all(inputs, 1000)[0] == names
    file = inputs.sources[0].file
    file.write_text(file.read_text().replace('"text 50 ', '"Text 50 ', 1))
    changed, _, _ = read_all(inputs, 1000)
    assert len(set(changed) - set(names)) == 1


def test_the_first_bad_record_is_refused_with_its_line_in_the_file(tmp_path: Path) -> None:
    inputs = open_as("jsonl", tmp_path, bad=True)
    reader = BlockReader(inputs, LIMITS, skip_bad=False)
    task = plan_tasks(inputs.sources, 200)[-1]
    ((number, piece),) = task.slices
    bad = [place for place, line in enumerate(inputs.sources[number].file.read_text().split("\n"))
           if line == '"open']  # fmt: skip
    assert piece.start
    later = [one for one in plan_tasks(inputs.sources, 200)
             if reader.inputs.sources[0].lines_before(one.slices[0][1]) <= bad[-1]]  # fmt: skip
    with pytest.raises(DataError, match=rf"in\.jsonl:{bad[-1] + 1}: is not JSON"):
        list(reader.blocks(later[-1]))
