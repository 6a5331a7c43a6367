"""Which tasks of MTEB are run, and their data: from the hub, or from a directory without network.

A directory has ``TASK.tsv`` (score, text, text) for tasks of semantic similarity, or folders
``TASK`` that are copies of the task's data set on the hub, as ``datasets`` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset, DatasetDict

from osa.model.conversion.rank_correlation import read_pairs
from osa.model.errors import ConfigError

BENCHMARKS = {"eng-v2": "MTEB(eng, v2)", "eng-v1": "MTEB(eng, v1)"}
"""Short names; every other name of a benchmark or a task of ``mteb`` works as well."""


def choose_tasks(names: Sequence[str], data: Path | None) -> list[Any]:
    """Tasks by name, or those that ``data`` has data of, in the order of their names.

    Raises:
        ConfigError: No such task or benchmark, or a directory without data of any task.
    """
    if names:
        return [task for name in names for task in _named(name)]
    if data is None:
        raise ConfigError("either tasks or a directory of data must be named")
    found = sorted(
        {
            entry.stem if entry.suffix == ".tsv" else entry.name
            for entry in data.iterdir()
            if entry.suffix == ".tsv" or entry.is_dir()
        }
    )
    if not found:
        raise ConfigError(f"{data} holds neither TASK.tsv nor folders of data sets")
    return [task for name in found for task in _named(name)]


def _named(name: str) -> list[Any]:
    """The tasks of a benchmark, or one task.

    Raises:
        ConfigError: There is neither.
    """
    try:
        return [mteb.get_task(name)]
    except KeyError:
        pass
    try:
        return list(mteb.get_benchmark(BENCHMARKS.get(name, name)).tasks)
    except KeyError as error:
        raise ConfigError(f"mteb has neither a task nor a benchmark {name!r}") from error


def use_local_data(task: Any, data: Path) -> str:
    """Give a task its data from a directory; returns how much of the task's own it is.

    A text file is loaded now; a copy of a data set is read by ``mteb`` from there.

    Raises:
        ConfigError: There is no data of this task, or it is no task of similarity.
    """
    name = task.metadata.name
    if (data / name).is_dir():
        source = {**task.metadata.dataset, "path": str(data / name)}
        task.metadata = task.metadata.model_copy(update={"dataset": source})
        return "a copy of its data set"
    file = data / f"{name}.tsv"
    if not file.is_file():
        raise ConfigError(f"{data} has no data of {name}: neither {name}.tsv nor a folder {name}")
    if task.metadata.type != "STS":
        raise ConfigError(f"{file}: pairs with scores are for tasks of type STS, not {name}")
    scores, left, right = read_pairs(file)
    pairs = Dataset.from_dict({"sentence1": left, "sentence2": right, "score": scores})
    (split,) = task.metadata.eval_splits
    task.dataset = DatasetDict({split: pairs})
    task.data_loaded = True
    whole = (task.metadata.descriptive_stats or {}).get(split, {}).get("num_samples")
    return f"{len(scores)} of {whole or 'an unknown number of'} pairs"
