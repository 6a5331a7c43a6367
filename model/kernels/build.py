"""Compiles the CPU kernel during ``pip install``; setuptools calls it (see pyproject.toml).

One source, ``csrc/kernel.cpp``, is compiled once for each instruction set, and the library chooses
at run time. An instruction set that the compiler does not know is left out; without a compiler the
package installs without the library and the operator runs in torch.
"""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FLAGS = (
    "-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-pthread",
    "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
)  # fmt: skip
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512")
AMX = (*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16")
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {"baseline": ()}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS |= {"avx2": AVX2, "avx512": AVX512, "amx": AMX}


class BuildNative(build_ext):
    """Builds ``osa.model.kernels._native``: a shared library with a C interface, not a module."""

    def build_extension(self, ext: Extension) -> None:
        """Compile every instruction set that the compiler knows, and link them.

        Raises:
            CompileError: The baseline does not compile; setuptools installs without the library.
        """
        dispatch, kernel = (
            next(str(source) for source in ext.sources if Path(source).stem == stem)
            for stem in ("dispatch", "kernel")
        )
        objects, built = [], []
        for name, flags in INSTRUCTION_SETS.items():
            try:
                objects += self._compile(kernel, name, flags, [("OSA_ISA", name)])
            except CompileError:
                if name == "baseline":
                    raise
                self.warn(f"this compiler cannot build the CPU kernel for {name}")
            else:
                built.append(name)
        objects += self._compile(dispatch, "", (), [(f"OSA_HAVE_{name}", "1") for name in built])
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects, str(target), extra_postargs=["-pthread"], target_lang="c++"
        )

    def _compile(
        self, source: str, folder: str, flags: tuple[str, ...], macros: list[tuple[str, str | None]]
    ) -> list[str]:
        objects: list[str] = self.compiler.compile(
            [source],
            output_dir=str(Path(self.build_temp) / folder),
            macros=macros,
            extra_postargs=[*FLAGS, *flags],
        )
        return objects
