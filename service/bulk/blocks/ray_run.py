"""One run on Ray: readers and workers by Ray Data, which retries, and holds readers back."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from osa.model.errors import ConfigError, OsaError, first_line
from osa.model.records.errors import DataError
from osa.model.records.record import Problem
from osa.service.bulk.blocks.block_store import BlockStore
from osa.service.bulk.blocks.cluster import ClusterError, Workers, connected
from osa.service.bulk.blocks.plan import PIECE_BYTES, BlockReader, plan_tasks
from osa.service.bulk.blocks.workers import (
    Attempts,
    EmbedJob,
    EmbedWorker,
    describe_encoder,
    read_blocks,
)
from osa.service.bulk.inputs.sources import Inputs
from osa.service.bulk.opening import EncoderRequest
from osa.service.bulk.run import RunOptions, describe_files, describe_job, finished_schema
from osa.service.bulk.run_directory import Note, discard, find_finished
from osa.service.bulk.window_work import Summary, added_fields, count_finished

IN_FLIGHT = 2
"""Blocks that a worker is given at a time: while it embeds one, the next one comes."""
NOTES_AT_ONCE = 16
"""Notes of finished blocks that are read at a time."""


@dataclass(frozen=True)
class RayOptions:
    """How a run on Ray differs from one in a process.

    Attributes:
        workers: How it is spread.
        piece_bytes: How much a reader reads of a file that can be split [bytes].
        shown: How many bad records are told, with their lines.
    """

    workers: Workers
    piece_bytes: int = PIECE_BYTES
    shown: int = 20


class RayRun:
    """Files in, one Parquet file out, by workers."""

    def __init__(
        self,
        inputs: Inputs,
        request: EncoderRequest,
        output: Path,
        options: RunOptions,
        ray_options: RayOptions,
    ) -> None:
        """Describe the run.

        Args:
            inputs: What to read.
            request: What embeds it.
            output: The file to make.
            options: How.
            ray_options: How it is spread.

        Raises:
            ConfigError: An input that cannot be read by another process.
        """
        for source in inputs.sources:
            if not source.is_lasting:
                raise ConfigError(
                    f"--on ray reads files and objects, {source.file} is a pipe: workers cannot "
                    "read it"
                )
        self._inputs, self._request, self._output = inputs, request, output
        self._options, self._ray = options, ray_options

    def run(
        self,
        advance: Callable[[int], object],
        report: Callable[[Problem], object],
        tell: Callable[[str], object],
    ) -> Summary:
        """Embed everything.

        Args:
            advance: Told how many texts are done.
            report: Told of bad records that are left out, the first of them.
            tell: Told which engine embeds them.

        Raises:
            ConfigError: The output exists, or an unfinished run of another job; or workers differ.
            DataError: A bad record that is not to be skipped, a damaged file, or no text at all.
            ClusterError: The cluster cannot be reached, or workers die again and again.
        """
        with connected(self._ray.workers) as count:
            try:
                return self._run(count, advance, report, tell)
            except Exception as error:
                if not type(error).__module__.startswith("ray."):
                    raise
                raise ClusterError(f"the run on Ray failed: {_last_line(error)}") from error

    def _run(
        self,
        count: int,
        advance: Callable[[int], object],
        report: Callable[[Problem], object],
        tell: Callable[[str], object],
    ) -> Summary:
        import ray

        identity = self._describe(tell)
        job = describe_job(identity, self._inputs, self._options)
        job["piece_bytes"] = self._ray.piece_bytes
        files = describe_files(self._inputs.sources)
        if self._output.exists():
            note = find_finished(self._output)
            if self._options.resume and (note.get("job"), note.get("inputs")) == (job, files):
                discard(self._output, job)
                return count_finished(note)
            raise ConfigError(f"{self._output} exists: remove it, or choose another --output")
        options = self._options
        added = added_fields(
            options.output_column,
            identity["dimensions"],
            identity["dtype"],
            self._request.grouping is not None,
        )
        tasks = plan_tasks(self._inputs.sources, self._ray.piece_bytes)
        reader = BlockReader(self._inputs, options.window, options.skip_bad)
        store = BlockStore(self._output, job, options.resume)
        try:
            work = EmbedJob(
                self._request,
                identity,
                store.directory,
                added,
                self._inputs.columns,
                reader,
                tasks,
                self._ray.workers.retries,
                ray.remote(num_cpus=0)(Attempts).remote(),
            )
            notes = self._embed(count, work, store.done, advance, report)
            summary = Summary()
            for note in self._complete(store, notes).values():
                summary.add(note)
            if not summary.texts:
                store.abandon()
                named = ", ".join(str(one.file) for one in self._inputs.sources)
                raise DataError(f"no {options.kind} in {named}")
            made = {"version": version("osa-encoder"), "inputs": files}
            schema = finished_schema(self._inputs.columns, added, summary.vectors)
            store.finish(notes, schema, {"job": job, **summary.to_note(), **made})
            return summary
        finally:
            store.close()

    def _describe(self, tell: Callable[[str], object]) -> Note:
        """What a worker's encoder is: the first one says it, all others must be the same."""
        import ray

        workers = self._ray.workers
        describe = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus, max_calls=1)
        found: Any = ray.get(describe(describe_encoder).remote(self._request))
        if isinstance(found, OsaError):
            raise found
        for line in found["told"]:
            tell(line)
        identity: Note = found["identity"]
        return identity

    def _embed(
        self,
        count: int,
        work: EmbedJob,
        done: frozenset[str],
        advance: Callable[[int], object],
        report: Callable[[Problem], object],
    ) -> dict[str, Note | None]:
        """Notes of all blocks by name; None of those that were finished before."""
        import ray.data
        from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1  # a block of ours is one of theirs
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        workers, shown = self._ray.workers, 0
        read: Any = read_blocks  # of more arguments than the stub of map_batches knows
        numbers = [task.number for task in work.tasks]
        if not numbers:
            return {}
        rows = (
            ray.data.from_items(numbers, override_num_blocks=len(numbers))
            .map_batches(
                read,
                batch_size=None,
                batch_format="pyarrow",
                compute=TaskPoolStrategy(size=max(2, count)),
                num_cpus=0,  # workers may take all there are
                fn_kwargs={"tasks": work.tasks, "reader": work.reader, "done": done},
            )
            .map_batches(
                EmbedWorker,
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=IN_FLIGHT),
                fn_constructor_args=(work,),
                num_cpus=workers.cpus,
                num_gpus=workers.gpus,
            )
        )
        notes: dict[str, Note | None] = {}
        for row in rows.iter_rows():
            if row["error"] is not None:
                raise pickle.loads(row["error"])
            note = None if row["note"] is None else json.loads(row["note"])
            notes[row["name"]] = note
            if note is None:
                continue
            advance(note["texts"])
            for file, line, reason, kind in note.pop("problems"):
                shown += 1
                if shown <= self._ray.shown:
                    report(_placed(work, row["task"], Problem(Path(file), line, reason, kind)))
        return notes

    def _complete(self, store: BlockStore, notes: dict[str, Note | None]) -> dict[str, Note]:
        """Notes of all blocks, those of finished ones read."""
        missing = [name for name, note in notes.items() if note is None]
        with ThreadPoolExecutor(NOTES_AT_ONCE) as pool:
            read = dict(zip(missing, pool.map(store.note, missing), strict=True))
        return {name: note or read[name] for name, note in notes.items()}


def _placed(work: EmbedJob, task: int, problem: Problem) -> Problem:
    """A problem with the line of its file."""
    for source in work.reader.inputs.sources:
        if str(source.file) == str(problem.file):
            problem = Problem(source.file, problem.line, problem.reason, problem.kind)
            break
    return work.reader.place(work.tasks[task], problem)


def _last_line(error: BaseException) -> str:
    """The line of a trace that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)
