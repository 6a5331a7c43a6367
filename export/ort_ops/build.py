"""Builds the custom-op library: ``python -m osa.export.ort_ops.build``.

The CPU kernel is the operator's own C++ source, compiled for every instruction set that the
compiler knows; with ``nvcc`` on the path (or ``--cuda``) the CUDA kernel is built in too, and the
library still loads on machines without a GPU. Every step is reported on standard error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from osa.export.errors import ExportError
from osa.export.ort_ops import LIBRARY
from osa.export.ort_ops.headers import include_dir
from osa.export.ort_ops.steps import Progress, Step, run_steps, tell_nobody
from osa.model.common.scratch import scratch_directory
from osa.model.errors import OsaError

HERE = Path(__file__).parent
CUDA_ARCHITECTURES = ("80", "90")
PORTABLE_TO = "90"
"""Newer GPUs compile the PTX of this architecture when the library is loaded."""


def build(
    target: Path = LIBRARY, cuda: bool | None = None, progress: Progress = tell_nobody
) -> Path:
    """Compile and link the library.

    Args:
        target: Path of the library.
        cuda: Whether to build the CUDA kernel; default is where there is ``nvcc``.
        progress: Called with a line for every step.

    Raises:
        ExportError: No compiler, no headers, or a compiler's error.
    """
    try:
        from osa.model.kernels.build import FLAGS, INSTRUCTION_SETS
    except ImportError as error:
        raise ExportError("building needs setuptools: pip install 'osa-encoder[export]'") from error
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise ExportError("no C++ compiler found: install one, or set CXX")
    nvcc = shutil.which("nvcc") if cuda is not False else None
    if cuda and nvcc is None:
        raise ExportError("no nvcc found: put CUDA's compiler on the path, or build without --cuda")
    kernel = Path(sys.modules["osa.model.kernels.build"].__file__ or "").parent / "csrc"
    includes = [f"-I{kernel}", "-isystem", str(include_dir(progress))]
    common = [compiler, *FLAGS, "-fPIC", "-c", *includes]
    sets = {
        name: flags
        for name, flags in INSTRUCTION_SETS.items()
        if name == "baseline" or _knows(compiler, flags)
    }
    with scratch_directory("the native operator's build") as objects:
        steps = _cpu_steps(common, sets, kernel, objects, with_cuda=nvcc is not None)
        if nvcc is not None:  # the longest first
            cuda_step = Step("compiling for CUDA", _nvcc(nvcc, kernel, objects / "cuda.o"))
            steps = [cuda_step, *steps]
        run_steps(steps, progress)
        link = [compiler, "-shared", "-Wl,-Bsymbolic", "-pthread"]
        if nvcc is not None:
            link = [nvcc, "-shared", "--cudart", "static", "-Xlinker", "-Bsymbolic"]
        built = objects / LIBRARY.name
        inputs = map(str, sorted(objects.glob("*.o")))
        run_steps([Step("linking", [*link, *inputs, "-o", str(built)])], progress)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(built, staged)
        staged.chmod(0o755)
        staged.replace(target)
    return target


def _cpu_steps(
    common: list[str],
    sets: Mapping[str, tuple[str, ...]],
    kernel: Path,
    objects: Path,
    with_cuda: bool,
) -> list[Step]:
    """The attention of the CPU kernel for each instruction set, its dispatch, and the operator."""
    from osa.model.kernels.build import ATTENTION  # which needs setuptools

    built = [name for name in sets if name in ATTENTION]
    common = [*common, "-DOSA_ATTENTION_ALONE"]
    steps = [
        Step(f"compiling kernel.cpp for {name}",
             [*common, *sets[name], f"-DOSA_ISA={name}", str(kernel / "kernel.cpp"),
              "-o", str(objects / f"kernel_{name}.o")])
        for name in reversed(built)
    ]  # fmt: skip
    rest = {
        "register": (HERE / "csrc" / "register.cpp", ["-DOSA_CUDA"] if with_cuda else []),
        "dispatch": (kernel / "dispatch.cpp", [f"-DOSA_HAVE_{name}=1" for name in built]),
    }
    for name, (source, defines) in rest.items():
        command = [*common, *defines, str(source), "-o", str(objects / f"{name}.o")]
        steps.append(Step(f"compiling {source.name}", command))
    return steps


def _nvcc(nvcc: str, kernel: Path, target: Path) -> list[str]:
    code = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in CUDA_ARCHITECTURES]
    code.append(f"-gencode=arch=compute_{PORTABLE_TO},code=compute_{PORTABLE_TO}")
    source = HERE / "csrc" / "attention_cuda.cu"
    flags = ["-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden", f"-I{kernel}"]
    return [nvcc, "--threads", "0", *flags, *code, "-c", str(source), "-o", str(target)]


def _knows(compiler: str, flags: tuple[str, ...]) -> bool:
    command = [compiler, *flags, "-x", "c++", "-c", os.devnull, "-o", os.devnull]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def main(arguments: list[str] | None = None) -> int:
    """Build from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m osa.export.ort_ops.build", description=__doc__)
    parser.add_argument("--output", type=Path, default=LIBRARY, help="path of the library")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cuda", action="store_true", default=None, help="fail without nvcc")
    kind.add_argument("--no-cuda", dest="cuda", action="store_false", help="the CPU kernel alone")
    options = parser.parse_args(arguments)
    try:
        print(build(options.output, options.cuda, _tell))
    except OsaError as error:
        print(f"osa: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")  # one write per line: steps run in parallel
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
