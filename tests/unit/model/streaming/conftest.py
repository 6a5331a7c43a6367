"""Limits and counts of files of this process."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def open_files() -> Callable[[], int]:
    """How many files are open."""
    return lambda: len(os.listdir("/proc/self/fd"))
