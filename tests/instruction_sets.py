"""Tests on every instruction set of this machine: a fixture of each kind, to be imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from osa.model.kernels import native


def _with(name: str, current: Callable[[], str], use: Callable[[str], None]) -> Iterator[str]:
    before = current()
    use(name)
    yield name
    use(before)


@pytest.fixture(params=native.instruction_sets() or ["none"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Compute with one after the other."""
    yield from _with(request.param, native.instruction_set, native.use_instruction_set)


@pytest.fixture(params=native.product_sets() or ["none"])
def products(request: pytest.FixtureRequest) -> Iterator[str]:
    """Multiply by one variant after the other."""
    yield from _with(request.param, native.product_set, native.use_product_set)
