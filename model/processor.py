"""What this process may use of its processor, settled when ``osa.model`` is imported.

Three libraries read the environment once, when they start: GNU OpenMP (what idle threads do), MKL
(in which order it sums) and oneDNN (which instructions it compiles for). So import ``osa.model``
before torch; imported later, all but the first still hold, up to torch's first product. What the
environment says already is kept.

* Idle threads sleep instead of spinning: several times less CPU time beside other work (decision
  23).
* MKL's strict mode keeps one order of summation on Intel's processors ("Obtaining Numerically
  Reproducible Results", oneMKL Developer Guide). It is not promised for those of other vendors, and
  does not hold there on many threads; ``functional.tiling`` is what fixes the order on these
  (decision 23).
* The instruction set can be limited to that of a lesser processor, so that one machine proves what
  another will do. ONNX Runtime knows no such limit, nor does MKL on other vendors' processors.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from osa.model.errors import ConfigError

VARIABLE = "OSA_MODEL__INSTRUCTION_SET"
"""Read at import; the same as the server's setting ``model.instruction_set``."""
AUTO = "auto"
WAIT_POLICY = "OMP_WAIT_POLICY"
PRODUCT_ORDER = "MKL_CBWR"

_FLAGS = {
    "amx": {"amx_bf16", "amx_tile"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx2": {"avx2", "fma"},
    "baseline": set[str](),
}
"""Instruction sets, best first, and what a processor needs for each, by Linux' names."""
INSTRUCTION_SETS = tuple(_FLAGS)
"""Best first. ``avx512`` includes bfloat16 products where the processor has them."""
_LIMITS: dict[str, dict[str, str]] = {
    "amx": {},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "baseline": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
_settled: dict[str, str] = {}
"""Variables that were set here, and may be set otherwise."""


@functools.cache
def _cpuinfo() -> Mapping[str, str]:
    """Fields of the first processor in ``/proc/cpuinfo``; none on other systems than Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _flags() -> set[str]:
    """Features of this processor by Linux' names; none where the system does not tell."""
    return set(_cpuinfo().get("flags", "").split())


def supported() -> tuple[str, ...]:
    """Instruction sets of this processor, best first; all of them where the system does not tell.

    Libraries find out by themselves what the processor has: this list only ever limits them.
    """
    flags = _flags()
    if not flags and platform.machine().lower() in ("x86_64", "amd64"):
        return INSTRUCTION_SETS
    return tuple(name for name in INSTRUCTION_SETS if _FLAGS[name] <= flags)


def instruction_set_limit() -> str:
    """The best instruction set that may be used: the processor's, or a lesser one asked for.

    Raises:
        ConfigError: The environment asks for one that is unknown, or that this processor lacks.
    """
    return _checked(os.environ.get(VARIABLE, AUTO))


def _checked(asked: str) -> str:
    there = supported()
    if asked in ("", AUTO):
        return there[0]
    if asked not in there:
        raise ConfigError(
            f"{VARIABLE} must be {AUTO} or one of {', '.join(there)} on this processor, got "
            f"{asked!r}"
        )
    return asked


def allowed() -> tuple[str, ...]:
    """Instruction sets that may be used, best first.

    Raises:
        ConfigError: As ``instruction_set_limit``.
    """
    limit = INSTRUCTION_SETS.index(instruction_set_limit())
    return tuple(name for name in supported() if INSTRUCTION_SETS.index(name) >= limit)


def has_bfloat16_products() -> bool:
    """Whether the processor multiplies bfloat16 natively, and may; no where it does not tell.

    Raises:
        ConfigError: As ``instruction_set_limit``.
    """
    best, flags = allowed()[0], _flags()
    tiles = best == "amx" and _FLAGS["amx"] <= flags
    return tiles or (best in ("amx", "avx512") and "avx512_bf16" in flags)


def is_intel() -> bool:
    """Whether MKL's promises are made for this processor."""
    return _cpuinfo().get("vendor_id") == "GenuineIntel"


def limit_instruction_set(name: str) -> None:
    """Use no better instruction set than this one, in torch's libraries and our own.

    Args:
        name: One of ``INSTRUCTION_SETS``, or ``auto``: what the environment says, else the best.

    Raises:
        ConfigError: There is no such instruction set, or this processor lacks it.
    """
    asked = os.environ.get(VARIABLE, AUTO) if name == AUTO else name
    limit = _checked(asked)
    for variable, value in _settled.items():
        if os.environ.get(variable) == value:
            del os.environ[variable]
    _settled.clear()
    if asked not in ("", AUTO):
        os.environ[VARIABLE] = asked
        for variable, value in _LIMITS[limit].items():
            _settle(variable, value)
    fix_product_order()


def fix_product_order() -> str | None:
    """Ask MKL for one order of summation; in force if no product was computed before.

    Returns:
        What is asked for, or None where it would promise nothing. A value that the environment
        already has is kept.
    """
    best = allowed()[0]
    if is_intel() and best != "baseline":
        _settle(PRODUCT_ORDER, f"{'AVX2' if best == 'avx2' else 'AVX512'},STRICT")
    return os.environ.get(PRODUCT_ORDER)


def _settle(variable: str, value: str) -> None:
    if variable not in os.environ:
        os.environ[variable] = _settled[variable] = value


def arithmetic() -> dict[str, str]:
    """What the last bits of a computation depend on besides torch and the number of threads.

    Raises:
        ConfigError: The environment asks for an instruction set that this processor lacks.
    """
    return {
        "processor": _cpuinfo().get("model name", platform.machine()),
        "instruction set": instruction_set_limit(),
        "order of products": os.environ.get(PRODUCT_ORDER, "the library's own"),
    }


def prepare() -> None:
    """Settle all three; called when ``osa.model`` is imported.

    An instruction set that cannot be is refused where it would be used, not here.
    """
    os.environ.setdefault(WAIT_POLICY, "passive")
    with contextlib.suppress(ConfigError):
        limit_instruction_set(AUTO)
