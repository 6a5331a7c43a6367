"""What is free in the heap goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from osa.service.server.heap import trimmer

PROGRAM = """
import os
from osa.service.server import heap

heap.TRIM_S = 0.05
{limit}

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks = [bytes(1000) for _ in range(200_000)]
full = resident()
del blocks[:-1]  # the last one keeps what is below it
import time
until = time.monotonic() + {wait_s}
while time.monotonic() < until and resident() > full - 100_000_000:
    time.sleep(0.05)
print(full - resident())
"""


def freed(limit: str, wait_s: float) -> int:
    program = PROGRAM.format(limit=limit, wait_s=wait_s)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(trimmer() is None, reason="the C library has no malloc_trim")
def test_free_memory_below_a_block_in_use_is_given_back() -> None:
    assert freed("", 1.0) < 50_000_000
    assert freed("heap.keep_small()", 60.0) > 100_000_000
