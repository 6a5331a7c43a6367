"""Architecture, vector extensions and instruction sets of this processor.

AOTInductor compiles for the processor that it runs on. An instruction that a processor lacks ends
the process, so manifests state the processor that an artifact was made for. Its code for GPUs runs
on one architecture alone, which manifests state too.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from osa.export.errors import ExportError

PROCESSOR, INSTRUCTIONS, GPU = "processor", "instructions", "gpu"
"""Keys of a manifest's versions."""
CAPABILITIES = ("DEFAULT", "AVX2", "AVX512")
"""Vector extensions by torch's names, each a superset of the one before."""
USED_UNASKED = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "abm", "movbe", "popcnt", "gfni",
                "vaes", "vpclmul")  # fmt: skip
"""Prefixes of Linux' names of the x86-64 extensions that compilers use by default; not AMX."""
NEVER_USED = {"sse4a", "fma4"}
"""Extensions of AMD that compilers do not use by default."""
CPU_FACTS = Path("/proc/cpuinfo")


def describe_processor(device: str = "cpu") -> dict[str, str]:
    """Facts of this processor for a manifest, and of the GPU where ``device`` is cuda."""
    facts = {PROCESSOR: processor(), INSTRUCTIONS: " ".join(sorted(instructions()))}
    return facts | ({GPU: gpu()} if device == "cuda" else {})


def gpu() -> str:
    """Architecture of the CUDA device, such as sm_90."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def processor() -> str:
    """Architecture and vector extensions."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def instructions() -> frozenset[str]:
    """Instruction sets of this x86-64 processor that compilers use; empty where unknown."""
    try:
        lines = CPU_FACTS.read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flag for flag in flags.split() if flag.startswith(USED_UNASKED)) - NEVER_USED


def check_processor(made_for: Mapping[str, str], path: Path) -> None:
    """Refuse machine code that would end the process with an illegal instruction.

    Args:
        made_for: ``versions`` of the manifest; missing entries are not checked.
        path: The artifact, for messages.

    Raises:
        ExportError: What this processor lacks, and what to do.
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


def check_gpu(made_for: Mapping[str, str], path: Path) -> None:
    """Refuse machine code of another architecture of GPU, which would fail at the first batch.

    Args:
        made_for: ``versions`` of the manifest; one without the entry is not checked.
        path: The artifact, for messages.

    Raises:
        ExportError: Naming both.
    """
    here = gpu()
    made = made_for.get(GPU, here)
    if made != here:
        raise ExportError(
            f"{path} was compiled for GPUs of {made}, this one is {here}: export it again here, or "
            "use an onnx artifact"
        )
