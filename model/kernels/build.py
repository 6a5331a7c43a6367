"""Compiles the CPU kernel during ``pip install``; setuptools calls it (see pyproject.toml).

``csrc/kernel.cpp`` and ``csrc/products.cpp`` are compiled once for each instruction set that makes
a difference to them, and the library chooses at run time. An instruction set that the compiler
does not know is left out; without a compiler the package installs without the library and the
operator runs in torch.
"""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
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
AVX512_VNNI = (*AVX512, "-mavx512vnni")
AVX512_BF16 = (*AVX512_VNNI, "-mavx512bf16")
AMX = (*AVX512_BF16, "-mamx-tile", "-mamx-bf16", "-mamx-int8")
DOT = ("-march=armv8.2-a+dotprod",)
DOT_BF16 = ("-march=armv8.2-a+dotprod+bf16",)


def instruction_sets_of(machine: str) -> dict[str, tuple[str, ...]]:
    """The compiler's flags for each instruction set that is built for a kind of machine."""
    found: dict[str, tuple[str, ...]] = {"baseline": ()}
    if machine.lower() in ("x86_64", "amd64"):
        found |= {
            "avx2": AVX2,
            "avx2_vnni": (*AVX2, "-mavxvnni"),
            "avx512": AVX512,
            "avx512_vnni": AVX512_VNNI,
            "avx512_bf16": AVX512_BF16,
            "amx": AMX,
        }
    if machine.lower() in ("aarch64", "arm64"):
        found |= {"baseline_dot": DOT, "baseline_bf16": DOT_BF16}
    return found


INSTRUCTION_SETS = instruction_sets_of(platform.machine())
ATTENTION = ("baseline", "avx2", "avx512", "avx512_bf16", "amx")
"""Instruction sets that the attention has a variant for; products have one for each."""


def sources_of(instruction_set: str) -> tuple[str, ...]:
    """Names of the sources that are compiled for an instruction set."""
    return ("kernel", "products") if instruction_set in ATTENTION else ("products",)


class BuildNative(build_ext):
    """Builds ``osa.model.kernels._native``: a shared library with a C interface, not a module."""

    def build_extension(self, ext: Extension) -> None:
        """Compile every instruction set that the compiler knows, and link them.

        Raises:
            CompileError: The baseline does not compile; setuptools installs without the library.
        """
        paths = {Path(source).stem: str(source) for source in ext.sources}
        with ThreadPoolExecutor() as pool:
            waiting = {
                name: [
                    pool.submit(self._compile, paths[source], name, flags, [("OSA_ISA", name)])
                    for source in sources_of(name)
                ]
                for name, flags in INSTRUCTION_SETS.items()
            }
        objects, built = [], []
        for name, futures in waiting.items():
            try:
                objects += [found for future in futures for found in future.result()]
            except CompileError:
                if name == "baseline":
                    raise
                self.warn(f"this compiler cannot build the CPU kernel for {name}")
            else:
                built.append(name)
        macros: list[tuple[str, str | None]] = [(f"OSA_HAVE_{name}", "1") for name in built]
        for source in ("dispatch", "pass"):
            objects += self._compile(paths[source], "", (), macros)
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
