"""Kernels that were compiled before: a folder of them in front of Triton's own cache.

An image holds the kernels of its model (``build`` writes them), so a
new pod compiles nothing. Triton names a kernel by a hash of its source, of the types and the
divisibility of its arguments, of its options, of the device's capability and of its own version:
what is found is what would have been compiled, and what is not found is compiled as ever.
"""

from __future__ import annotations

from pathlib import Path

from triton import knobs
from triton.runtime.cache import FileCacheManager

FOLDER = Path(__file__).with_name("kernels")
"""Where an image has them."""
KEPT = (".cubin", ".json")
"""Endings of the files of a kernel that are needed to run it."""


class CompiledKernels(FileCacheManager):  # type: ignore[misc]  # triton ships no types
    """Triton's cache of one kernel, read from ``FOLDER`` where that has it.

    Triton's own cache names files by absolute paths, and is written to; the folder may be moved,
    and need not be writable.
    """

    folder = FOLDER

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        """Look for a kernel.

        Args:
            key: Its hash.
            override: As for Triton's manager, which alone has such.
            dump: Likewise.
        """
        found = self.folder / key
        self._is_there = not (override or dump) and found.is_dir()
        if self._is_there:
            self.key, self.cache_dir, self.lock_path = key, str(found), None
        else:
            super().__init__(key, override, dump)

    def get_group(self, filename: str) -> dict[str, str] | None:
        """Files of the kernel by name."""
        if not self._is_there:
            group: dict[str, str] | None = super().get_group(filename)
            return group
        return {file.name: str(file) for file in Path(self.cache_dir).iterdir()}


def use_compiled_kernels() -> None:
    """Look for kernels in the folder, where it is there and nothing else was asked for."""
    if FOLDER.is_dir() and knobs.cache.manager_class is None:
        knobs.cache.manager_class = CompiledKernels
