"""Rows of a sequence between two layers, in a file without a name.

Shapes: n rows, W numbers of a row.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from osa.model.common.scratch import no_temporary_directory
from osa.model.errors import ConfigError, SpillError


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
        self._shape, self._dtype = shape, dtype
        self._row = torch.empty(shape, dtype=dtype).nbytes
        self._kept = torch.empty(0, *shape, dtype=dtype)
        try:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115  # until ``close``
                prefix="osa-stream-", dir=directory, buffering=0
            )
        except OSError as error:
            if directory is None:
                raise ConfigError(no_temporary_directory("a long text", error)) from error
            raise ConfigError(f"{directory} cannot hold a long text: {error.strerror}") from error

    def write(self, first: int, rows: Shaped[Tensor, "n ..."]) -> None:
        """Store rows from ``first`` on.

        Raises:
            SpillError: There is no room, or the device fails.
        """
        left = _bytes_of(rows.detach().to("cpu").contiguous())
        place = first * self._row
        try:
            while left:
                done = os.pwrite(self._file.fileno(), left, place)
                left, place = left[done:], place + done
        except OSError as error:
            raise SpillError(
                f"states of a long text cannot be written: {error.strerror}"
            ) from error

    def read(self, first: int, count: int, reuse: bool = False) -> Shaped[Tensor, "n ..."]:
        """Rows ``first`` to ``first + count``, which were written before.

        Args:
            first: First row.
            count: How many.
            reuse: Into memory that the next such call uses again: pages are touched once.

        Raises:
            SpillError: The device fails.
        """
        if reuse and len(self._kept) >= count:
            rows = self._kept[:count]
        else:
            rows = torch.empty(count, *self._shape, dtype=self._dtype)
            self._kept = rows if reuse else self._kept
        left, place = _bytes_of(rows), first * self._row
        try:
            while left:
                done = os.preadv(self._file.fileno(), [left], place)
                if not done:
                    raise SpillError("states of a long text are shorter than what was written")
                left, place = left[done:], place + done
        except OSError as error:
            raise SpillError(f"states of a long text cannot be read: {error.strerror}") from error
        return rows

    def close(self) -> None:
        """Give memory and disk back."""
        self._file.close()


def _bytes_of(rows: Tensor) -> memoryview:
    """The memory of contiguous rows on the CPU."""
    return rows.view(torch.uint8).numpy().data.cast("B")
