"""Every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from osa.model.kernels import native


@pytest.fixture(params=native.instruction_sets() or ["none"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Compute with one after the other."""
    before = native.instruction_set()
    native.use_instruction_set(request.param)
    yield request.param
    native.use_instruction_set(before)
