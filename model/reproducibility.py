"""Matrix products whose bits do not depend on how many rows are multiplied together.

Intel's MKL, which multiplies float32 matrices in torch on x86 processors, takes other summation
orders for few rows than for many, and on several threads. Its strict mode of conditional numerical
reproducibility keeps one order (Intel oneMKL Developer Guide, "Obtaining Numerically Reproducible
Results"). Measured: no difference in time, and every row the same bits for 1 to 5000 rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

VARIABLE = "MKL_CBWR"
BRANCHES = {"AVX512": "AVX512,STRICT", "AVX2": "AVX2,STRICT"}


def fix_product_order() -> str | None:
    """Ask MKL for one summation order; call it before the first product of the process.

    Returns:
        What was asked for, or None where it is not known to help (another vendor's processor, a
        torch without MKL). A value that the environment already has is kept.
    """
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    branch = BRANCHES.get(torch.backends.cpu.get_cpu_capability())
    if branch is None or not torch.backends.mkl.is_available() or not _is_intel():
        return None
    os.environ[VARIABLE] = branch
    return branch


def _is_intel() -> bool:
    """MKL's branches are promised for Intel's own processors."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
