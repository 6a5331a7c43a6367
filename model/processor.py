"""Environment variables of torch's libraries, set when ``osa.model`` is imported.

Three libraries read the environment once, when they start: GNU OpenMP (how many threads, and what
idle ones do), MKL (the order of its sums) and oneDNN (the instructions it compiles for). So import
``osa.model`` before torch; imported later, all but the first still apply until torch's first matrix
product. Variables that are already set are kept.

* Threads follow a container's CPU quota (``common.threads``).
* Idle threads sleep instead of spinning, which saves CPU time beside other processes (decision 23).
* MKL's strict mode keeps one order of summation on Intel's processors ("Obtaining Numerically
  Reproducible Results", oneMKL Developer Guide). On those of other vendors it is not guaranteed;
  there ``functional.tiling`` fixes the order (decision 23).
* The instruction set can be limited to that of a lesser processor, to test its results on another
  machine. ONNX Runtime has no such limit, nor has MKL on processors of other vendors.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from osa.model.common.threads import follow_quota
from osa.model.errors import ConfigError

VARIABLE = "OSA_MODEL__INSTRUCTION_SET"
"""Read at import; also the variable of the server's setting ``model.instruction_set``."""
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
"""Variables that were set here, and may be changed again."""


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
    """Features of this processor by Linux' names; empty where the system names none."""
    about = _cpuinfo()
    return set(about.get("flags", about.get("Features", "")).split())


def supported() -> tuple[str, ...]:
    """Instruction sets of this processor, best first; all of them where the system names none.

    Libraries detect the processor themselves; this list only limits them.
    """
    flags = _flags()
    if not flags and platform.machine().lower() in ("x86_64", "amd64"):
        return INSTRUCTION_SETS
    return tuple(name for name in INSTRUCTION_SETS if _FLAGS[name] <= flags)


def instruction_set_limit() -> str:
    """The best instruction set that may be used: the processor's, or the configured limit.

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
    """Whether the processor multiplies bfloat16 faster than float32 and may; else False.

    Intel's vector units do it at half the rate of float32 (decision 37), its tiles at eight times.

    Raises:
        ConfigError: As ``instruction_set_limit``.
    """
    best, flags = allowed()[0], _flags()
    if {"asimddp", "bf16"} <= flags:  # arm64
        return True
    tiles = best == "amx" and _FLAGS["amx"] <= flags
    vectors = best in ("amx", "avx512") and "avx512_bf16" in flags
    return tiles or (vectors and not is_intel())


def has_fast_bfloat16(device: str) -> bool:
    """Whether ``device`` (cpu or cuda) is fast at products of bfloat16.

    GPUs, AMX, AMD's AVX-512 BF16 and arm64's BF16 are. On other CPUs torch's own products of
    bfloat16 take several times as long as those of float32.

    Raises:
        ConfigError: The environment asks for an instruction set that this processor lacks.
    """
    import torch  # reads the environment that this module prepares

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if is_known():
        return has_bfloat16_products()
    features = torch.cpu.get_capabilities()
    limited = instruction_set_limit() in ("avx2", "baseline")
    return not limited and bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def is_known() -> bool:
    """Whether the system names this processor's features."""
    return bool(_flags())


def is_intel() -> bool:
    """Whether this is an Intel processor, for which MKL guarantees an order of sums."""
    return _cpuinfo().get("vendor_id") == "GenuineIntel"


def limit_instruction_set(name: str) -> None:
    """Use no better instruction set than this one, in torch's libraries and our own.

    Args:
        name: One of ``INSTRUCTION_SETS``, or ``auto``: that of the environment, else the best.

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
    """Set MKL's strict mode; it applies if no matrix product was computed before.

    Returns:
        The mode, or None where it guarantees nothing. A value that is already set is kept.
    """
    best = allowed()[0]
    if is_intel() and best != "baseline":
        _settle(PRODUCT_ORDER, f"{'AVX2' if best == 'avx2' else 'AVX512'},STRICT")
    return os.environ.get(PRODUCT_ORDER)


def _settle(variable: str, value: str) -> None:
    if variable not in os.environ:
        os.environ[variable] = _settled[variable] = value


def arithmetic() -> dict[str, str]:
    """Facts that the last bits of results depend on, besides torch and the number of threads.

    Raises:
        ConfigError: The environment asks for an instruction set that this processor lacks.
    """
    return {
        "processor": _cpuinfo().get("model name", platform.machine()),
        "instruction set": instruction_set_limit(),
        "order of products": os.environ.get(PRODUCT_ORDER, "the library's own"),
    }


def prepare() -> None:
    """Set all of them; called when ``osa.model`` is imported.

    An invalid instruction set is refused where it is used, not here.
    """
    os.environ.setdefault(WAIT_POLICY, "passive")
    follow_quota()
    with contextlib.suppress(ConfigError):
        limit_instruction_set(AUTO)
