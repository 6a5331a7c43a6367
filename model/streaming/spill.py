"""Rows of a sequence between two layers, in a file without a name.

Shapes: n rows, W numbers of a row.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from osa.model.common.scratch import no_temporary_directory
from osa.model.errors import ConfigError, SpillError

AT_ONCE = 1 << 20
"""About so much is written or read by one call, which nothing ends before it is done [bytes]."""
Check = Callable[[], None]
"""Called between two calls; raises where the rows are not wanted any more."""


class SpillFile:
    """Rows of fixed size; what was written ends with the object, whatever ends the process."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, directory: Path | None) -> None:
        """Open an empty file.

        Args:
            shape: Of a row.
            dtype: Of its numbers.
            directory: Where; None for the system's temporary directory.

        Raises:
            ConfigError: There is no directory that can be written.
        """
        self.shape, self.dtype = shape, dtype
        self.row = torch.empty(shape, dtype=dtype).nbytes
        try:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115  # until ``close``
                prefix="osa-stream-", dir=directory, buffering=0
            )
        except OSError as error:
            if directory is None:
                raise ConfigError(no_temporary_directory("a long text", error)) from error
            raise ConfigError(f"{directory} cannot hold a long text: {error.strerror}") from error

    def write(self, first: int, rows: Shaped[Tensor, "n ..."], check: Check) -> None:
        """Store rows on the CPU from ``first`` on.

        Args:
            first: First row.
            rows: The rows, contiguous.
            check: Called now and then.

        Raises:
            SpillError: There is no room, or the device fails.
        """
        left, place = _bytes_of(rows), first * self.row
        try:
            while left:
                check()
                done = os.pwrite(self._file.fileno(), left[:AT_ONCE], place)
                left, place = left[done:], place + done
        except OSError as error:
            raise SpillError(
                f"states of a long text cannot be written: {error.strerror}"
            ) from error

    def read(self, first: int, rows: Shaped[Tensor, "n ..."], check: Check) -> None:
        """Fill ``rows`` with those from ``first`` on, which were written before.

        Args:
            first: First row.
            rows: Where they go, contiguous on the CPU.
            check: Called now and then.

        Raises:
            SpillError: The device fails.
        """
        left, place = _bytes_of(rows), first * self.row
        try:
            while left:
                check()
                done = os.preadv(self._file.fileno(), [left[:AT_ONCE]], place)
                if not done:
                    raise SpillError("states of a long text are shorter than what was written")
                left, place = left[done:], place + done
        except OSError as error:
            raise SpillError(f"states of a long text cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


def _bytes_of(rows: Tensor) -> memoryview:
    """The memory of contiguous rows on the CPU."""
    return rows.view(torch.uint8).numpy().data.cast("B")
