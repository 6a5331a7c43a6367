"""The refusal of models that do something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from osa.model.config import Task
from osa.service.engines.eager import EagerEngine
from osa.service.errors import ModelKindError
from osa.service.inference.tasks import KINDS, ROUTES, check_task


@pytest.mark.parametrize("task", KINDS)
def test_the_message_names_kind_and_routes(tiny_checkpoint: Path, task: Task) -> None:
    about = dataclasses.replace(EagerEngine(tiny_checkpoint, "cpu").info, task=task)
    check_task(about, ())
    check_task(about, tuple(KINDS))
    others = tuple(other for other in KINDS if other != task)
    with pytest.raises(ModelKindError) as caught:
        check_task(about, others)
    assert KINDS[about.task] in str(caught.value)
    assert ROUTES[about.task] in str(caught.value)
