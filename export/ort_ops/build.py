"""Builds the custom-op library: ``python -m osa.export.ort_ops.build``.

The CPU kernel is the operator's own C++ source, compiled for every instruction set that the
compiler knows; with ``nvcc`` on the path (or ``--cuda``) the CUDA kernel is built in too, and the
library still loads on machines without a GPU.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from osa.export.errors import ExportError
from osa.export.ort_ops import LIBRARY
from osa.export.ort_ops.headers import include_dir
from osa.model.errors import OsaError

HERE = Path(__file__).parent
CUDA_ARCHITECTURES = ("80", "90")
PORTABLE_TO = "90"
"""Newer GPUs compile the intermediate code of this one when the library is loaded."""


def build(target: Path = LIBRARY, cuda: bool | None = None) -> Path:
    """Compile and link the library.

    Args:
        target: Where.
        cuda: With the CUDA kernel; default is where there is ``nvcc``.

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
    nvcc = shutil.which("nvcc")
    if cuda and nvcc is None:
        raise ExportError("no nvcc found: put CUDA's compiler on the path, or build without --cuda")
    with_cuda = nvcc is not None if cuda is None else cuda
    kernel = Path(sys.modules["osa.model.kernels.build"].__file__ or "").parent / "csrc"
    includes = [f"-I{kernel}", "-isystem", str(include_dir())]
    common = [compiler, *FLAGS, "-fPIC", "-c", *includes]
    with tempfile.TemporaryDirectory() as scratch:
        objects = Path(scratch)
        sets = [
            name
            for name, flags in INSTRUCTION_SETS.items()
            if name == "baseline" or _knows(compiler, flags)
        ]
        jobs = [
            [*common, *INSTRUCTION_SETS[name], f"-DOSA_ISA={name}", str(kernel / "kernel.cpp"),
             "-o", str(objects / f"{name}.o")]
            for name in sets
        ]  # fmt: skip
        have = [f"-DOSA_HAVE_{name}=1" for name in sets]
        jobs.append([*common, *have, str(kernel / "dispatch.cpp"), "-o", f"{objects}/dispatch.o"])
        defines = ["-DOSA_CUDA"] if with_cuda else []
        register = HERE / "csrc" / "register.cpp"
        jobs.append([*common, *defines, str(register), "-o", f"{objects}/register.o"])
        if with_cuda:
            assert nvcc is not None  # checked above
            jobs.append(_nvcc(nvcc, kernel, objects / "cuda.o"))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, jobs))
        link = [nvcc, "-shared", "--cudart", "static"] if with_cuda else [compiler, "-shared"]
        bound = ["-Xlinker", "-Bsymbolic"] if with_cuda else ["-Wl,-Bsymbolic", "-pthread"]
        built = objects / LIBRARY.name
        _run([*map(str, link), *bound, *map(str, objects.glob("*.o")), "-o", str(built)])
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(built, staged)
        staged.chmod(0o755)
        staged.replace(target)
    return target


def _nvcc(nvcc: str, kernel: Path, target: Path) -> list[str]:
    code = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in CUDA_ARCHITECTURES]
    code.append(f"-gencode=arch=compute_{PORTABLE_TO},code=compute_{PORTABLE_TO}")
    source = HERE / "csrc" / "attention_cuda.cu"
    return [nvcc, "-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden", *code,
            f"-I{kernel}", "-c", str(source), "-o", str(target)]  # fmt: skip


def _knows(compiler: str, flags: tuple[str, ...]) -> bool:
    command = [compiler, *flags, "-x", "c++", "-c", os.devnull, "-o", os.devnull]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"{' '.join(command)}\n{(done.stderr or done.stdout)[-4000:]}")


def main(arguments: list[str] | None = None) -> int:
    """Build from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m osa.export.ort_ops.build", description=__doc__)
    parser.add_argument("--output", type=Path, default=LIBRARY, help="where the library goes")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cuda", action="store_true", default=None, help="fail without nvcc")
    kind.add_argument("--no-cuda", dest="cuda", action="store_false", help="the CPU kernel alone")
    options = parser.parse_args(arguments)
    try:
        print(build(options.output, options.cuda))
    except OsaError as error:
        print(f"osa: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
