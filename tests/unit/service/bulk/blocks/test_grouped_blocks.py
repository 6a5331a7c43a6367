"""Blocks of records with several vectors: what workers write is the file of one process."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from osa.service.bulk.blocks.block_store import BlockStore
from osa.service.bulk.blocks.plan import BlockReader, plan_tasks
from osa.service.bulk.blocks.workers import TASK, EmbedJob, EmbedWorker, read_blocks
from osa.service.bulk.inputs.input_column import InputColumn
from osa.service.bulk.inputs.sources import InputOptions, open_inputs
from osa.service.bulk.opening import EncoderRequest, open_encoder
from osa.service.bulk.run import finished_schema
from osa.service.bulk.window_vectors import Grouping
from osa.service.bulk.window_work import Summary, added_fields
from osa.service.bulk.windows import WindowLimits
from tests.conftest import WORDS, Embed, local_settings


def test_workers_write_the_file_of_one_process(
    embed: Embed, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS[4:], generator.integers(1, 40))) for _ in range(60)]
    file = tmp_path / "a.txt"
    file.write_text("\n".join(texts) + "\n")
    options = "--vectors-per-document 3 --chunk-tokens 5 --rows-per-group 16"
    assert embed(file, output="one.parquet", options=options) == 0

    settings = local_settings(model__path=tiny_checkpoint)
    request = EncoderRequest(settings, grouping=Grouping(3, 5))
    identity = open_encoder(request).identity()
    assert (identity["vectors_per_document"], identity["chunk_tokens"]) == (3, 5)
    inputs = open_inputs([str(file)], InputOptions(InputColumn("text")))
    tasks = plan_tasks(inputs.sources, 500)
    assert len(tasks) > 2
    reader = BlockReader(inputs, WindowLimits(16), False)
    store = BlockStore(tmp_path / "many.parquet", {}, resume=False)
    added = added_fields("embedding", 16, "float32", grouped=True)
    job = EmbedJob(request, identity, store.directory, added, inputs.columns, reader, tasks)
    worker = EmbedWorker(pickle.loads(pickle.dumps(job)))
    summary, names = Summary(), []
    numbers = pa.table({TASK: [task.number for task in tasks]})
    for rows in read_blocks(numbers, tasks, reader, frozenset()):
        (row,) = rows.to_pylist()
        note = worker._embed(row["task"], row["name"], pickle.loads(row["window"]))
        assert note["problems"] == []
        summary.add(note)
        names.append(row["name"])
    store.finish(names, finished_schema(inputs.columns, added, summary.vectors), {})
    store.close()
    found, wanted = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("many", "one"))
    assert found.equals(wanted)
    assert (summary.texts, summary.vectors) == (60, wanted.num_rows)
    assert wanted.num_rows > 100
