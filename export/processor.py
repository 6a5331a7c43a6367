"""Which machine code this processor runs: architecture, vector extensions, single instruction sets.

AOTInductor compiles for the very processor that it runs on. Where code needs an instruction that a
processor lacks the process ends, so packages say what they were made for.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from osa.export.errors import ExportError

PROCESSOR, INSTRUCTIONS = "processor", "instructions"
"""Keys of a manifest's versions."""
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")
"""Vector extensions as torch names them, each holding the one before."""
USED_UNASKED = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "abm", "movbe", "popcnt", "gfni",
                "vaes", "vpclmul")  # fmt: skip
"""How Linux' names begin of what compilers use by themselves on x86-64; AMX is none of it."""
NEVER_USED = {"sse4a", "fma4"}
"""AMD's own, which no compiler uses unasked."""
CPU_FACTS = Path("/proc/cpuinfo")


def describe_processor() -> dict[str, str]:
    """What machine code made here may hold, as a manifest states it."""
    return {PROCESSOR: processor(), INSTRUCTIONS: " ".join(sorted(instructions()))}


def processor() -> str:
    """Architecture and vector extensions."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def instructions() -> frozenset[str]:
    """Instruction sets of this x86-64 processor that compilers use; empty where none are told."""
    try:
        lines = CPU_FACTS.read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flag for flag in flags.split() if flag.startswith(USED_UNASKED)) - NEVER_USED


def check_processor(made_for: Mapping[str, str], path: Path) -> None:
    """Refuse machine code that would end the process with an illegal instruction.

    Args:
        made_for: Versions of the manifest; what they do not state is not checked.
        path: Of the artifact.

    Raises:
        ExportError: Saying what is missing here and what to do.
    """
    again = "export it again here, or use an onnx artifact"
    here = processor()
    made = made_for.get(PROCESSOR, here)
    architecture, _, capability = made.partition(" ")
    own_architecture, _, own = here.partition(" ")
    fits = capability == own or (
        capability in CAPABILITIES
        and own in CAPABILITIES
        and CAPABILITIES.index(capability) < CAPABILITIES.index(own)
    )
    if architecture != own_architecture or not fits:
        raise ExportError(f"{path} was compiled for {made}, this processor is {here}: {again}")
    known = instructions()
    missing = set(made_for.get(INSTRUCTIONS, "").split()) - known if known else set()
    if missing:
        raise ExportError(
            f"{path} was compiled for a processor with {', '.join(sorted(missing))}, "
            f"which this one lacks: {again}"
        )
