"""What runs on Ray's workers: readers, and actors with an engine each that write their blocks.

Between them a block is a row: its name, and its records where they are still to be embedded.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from osa.model.errors import ConfigError, OsaError
from osa.model.records.errors import DataError
from osa.model.records.record import Problem
from osa.service.bulk.blocks.cluster import ClusterError
from osa.service.bulk.blocks.plan import BlockReader, ReadTask
from osa.service.bulk.run_directory import Note

if TYPE_CHECKING:
    from osa.service.bulk.encoder import BulkEncoder
    from osa.service.bulk.opening import EncoderRequest
    from osa.service.bulk.windows import Window

TASK = "item"
"""Name of the one column of what readers are given."""
TOLD = 20
"""Bad records of a block that are told with their places."""


def read_blocks(
    batch: pa.Table, tasks: list[ReadTask], reader: BlockReader, done: frozenset[str]
) -> Iterator[pa.Table]:
    """Rows of all blocks of some tasks.

    Args:
        batch: Numbers of tasks, in ``TASK``.
        tasks: All tasks.
        reader: Reads them.
        done: Names of blocks that need not be embedded.

    Yields:
        One row: ``task``, ``name``, ``window`` (pickled; null where it is done), ``error``. Ray
        keeps of an exception what it prints alone, so errors of ours go on as values.
    """
    for number in batch.column(TASK).to_pylist():
        try:
            for name, window in reader.blocks(tasks[number]):
                yield _row(number, name, None if name in done else window)
        except OsaError as error:
            yield _row(number, "", None, error)


def _row(task: int, name: str, window: Window | None, error: OsaError | None = None) -> pa.Table:
    values = {
        kind: pa.array([None if value is None else pickle.dumps(value, 5)], pa.large_binary())
        for kind, value in (("window", window), ("error", error))
    }
    return pa.table({"task": [task], "name": [name], **values})


@dataclass(frozen=True)
class EmbedJob:
    """What every worker is told.

    Attributes:
        request: Which encoder.
        identity: What that must be: the same on every machine. None for not known yet.
        directory: Where blocks are written.
        added: The columns that the output adds.
        columns: Of the input.
        reader: Which tells the lines of bad records.
        tasks: All tasks.
        retries: How often a block is tried again whose worker died.
        attempts: Handle of the run's ``Attempts``.
    """

    request: EncoderRequest
    identity: Note | None
    directory: Path
    added: list[pa.Field]
    columns: pa.Schema
    reader: BlockReader
    tasks: list[ReadTask]
    retries: int = 0
    attempts: Any = None


class Attempts:
    """How often each unfinished block was begun: an actor that all workers of a run share.

    Ray gives a block to another worker as often as its worker dies. Records that kill every worker
    would keep a run going for ever.
    """

    def __init__(self) -> None:
        """Nothing is begun."""
        self._begun: dict[str, int] = {}

    def begin(self, name: str) -> int:
        """Count a block as begun; how often it has been."""
        self._begun[name] = self._begun.get(name, 0) + 1
        return self._begun[name]

    def end(self, name: str) -> None:
        """Forget a block, which is finished."""
        self._begun.pop(name, None)


class EmbedWorker:
    """An engine that embeds and writes one block after another."""

    def __init__(self, job: EmbedJob) -> None:
        """Take a job; the engine is opened with the first block that needs it."""
        self._job = job
        self._encoder: BulkEncoder | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed and write the blocks of some rows, as ``read_blocks`` makes them.

        Returns:
            Of each ``task``, ``name``, ``note`` (JSON; null where it was done before), ``error``.
        """
        rows = [self._step(row) for row in batch.to_pylist()]
        kinds = (("note", pa.large_string()), ("error", pa.large_binary()))
        found = {kind: pa.array([row[kind] for row in rows], of) for kind, of in kinds}
        return pa.table({name: batch.column(name) for name in ("task", "name")} | found)

    def _step(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["window"] is None:
            return {"note": None, "error": row["error"]}
        window = pickle.loads(row["window"])
        try:
            self._begin(row["task"], row["name"], window)
            note = self._embed(row["task"], row["name"], window)
        except OsaError as error:
            return {"note": None, "error": pickle.dumps(error)}
        self._job.attempts.end.remote(row["name"])
        return {"note": json.dumps(note), "error": None}

    def _begin(self, task: int, name: str, window: Window) -> None:
        import ray

        job = self._job
        begun = ray.get(job.attempts.begin.remote(name))
        if begun > job.retries + 1:
            file, first = window.places[0]
            place = job.reader.place(job.tasks[task], Problem(file, first, "", ""))
            raise ClusterError(
                f"{begun - 1} workers died while they embedded the {len(window.inputs)} records "
                f"from {place.file}:{place.line} on: workers need more memory, or one of these "
                "kills them"
            )

    def _embed(self, task: int, name: str, window: Window) -> Note:
        from osa.service.bulk.run import finished_schema
        from osa.service.bulk.window_work import embed_window, prepare

        job = self._job
        encoder = self._encoder = self._encoder or self._open()
        rows, note, problems = embed_window(encoder, prepare(encoder, window), job.added)
        if problems and not job.reader.skip_bad:
            raise DataError(str(job.reader.place(job.tasks[task], problems[0])))
        schema = finished_schema(job.columns, job.added, len(rows))
        self._writer.write(name, rows.replace_schema_metadata(schema.metadata), note)
        told = [(str(one.file), one.line, one.reason, one.kind) for one in problems[:TOLD]]
        return {**note, "problems": told}

    def _open(self) -> BulkEncoder:
        from osa.service.bulk.blocks.block_store import BlockWriter
        from osa.service.bulk.opening import open_encoder

        self._writer = BlockWriter(self._job.directory)
        encoder = open_encoder(self._job.request)
        check_identity(encoder.identity(), self._job.identity)
        return encoder


def check_identity(found: Note, wanted: Note | None) -> None:
    """Refuse an encoder that is not that of the other workers.

    Raises:
        ConfigError: In what it differs.
    """
    for name, value in (wanted or {}).items():
        if found.get(name) != value:
            raise ConfigError(
                f"workers differ in {name}: one has {value}, another {found.get(name)}: give all "
                "machines the same model, and say --set model.dtype and model.engine"
            )


def describe_encoder(request: EncoderRequest) -> dict[str, Any] | OsaError:
    """Open an encoder and say what it is: its identity, and how it was chosen; or why it cannot."""
    from osa.service.bulk.opening import open_encoder

    told: list[str] = []
    try:
        encoder = open_encoder(request, told.append)
    except OsaError as error:
        return error
    return {"identity": encoder.identity(), "told": told}
