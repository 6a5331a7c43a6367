"""Instruction sets of the process: read from the environment, limited on request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from osa.model import processor
from osa.model.errors import ConfigError
from osa.model.kernels import native
from osa.model.processor import has_fast_bfloat16
from osa.service.cli import main

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
AVX2 = "fpu sse4_2 avx avx2 fma"
AVX512 = f"{AVX2} avx512f avx512bw avx512dq avx512vl"
BF16 = f"{AVX512} avx512_bf16"
AMX = f"{BF16} amx_tile amx_bf16 amx_int8"
MACHINES = [
    (INTEL, AMX, ("amx", "avx512", "avx2", "baseline"), True, "AVX512,STRICT"),
    (AMD, BF16, ("avx512", "avx2", "baseline"), True, None),
    (INTEL, BF16, ("avx512", "avx2", "baseline"), False, "AVX512,STRICT"),
    (INTEL, AVX512, ("avx512", "avx2", "baseline"), False, "AVX512,STRICT"),
    (AMD, AVX2, ("avx2", "baseline"), False, None),
    (INTEL, AVX2, ("avx2", "baseline"), False, "AVX2,STRICT"),
    (INTEL, "fpu sse4_2", ("baseline",), False, None),
]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without these variables; restored after the test."""
    limits = {name for values in processor._LIMITS.values() for name in values}
    monkeypatch.setattr(processor, "_settled", {})
    for name in (processor.VARIABLE, processor.PRODUCT_ORDER, *limits):
        monkeypatch.setenv(name, "")  # remembers what there was
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("machine", "sets"), [("aarch64", ("baseline",)), ("x86_64", processor.INSTRUCTION_SETS)]
)
def test_where_the_system_does_not_tell_nothing_is_limited(
    clean: pytest.MonkeyPatch, machine: str, sets: tuple[str, ...]
) -> None:
    """As on macOS: torch and our library detect them themselves."""
    pretend(clean, "", "")
    clean.setattr("platform.machine", lambda: machine)
    assert processor.supported() == sets
    assert not processor.has_bfloat16_products()
    assert processor.fix_product_order() is None


def pretend(monkeypatch: pytest.MonkeyPatch, vendor: str, flags: str) -> None:
    fields = {"vendor_id": vendor, "flags": flags}
    monkeypatch.setattr(processor, "_cpuinfo", lambda: fields)


@pytest.mark.parametrize(
    ("features", "fast"), [("fp asimd asimddp bf16", True), ("fp asimd asimddp", False)]
)
def test_arm64_multiplies_bfloat16_where_linux_says_so(
    clean: pytest.MonkeyPatch, features: str, fast: bool
) -> None:
    clean.setattr(processor, "_cpuinfo", lambda: {"Features": features})
    assert processor.allowed() == ("baseline",)
    assert processor.has_bfloat16_products() is has_fast_bfloat16("cpu") is fast


@pytest.mark.parametrize(("vendor", "flags", "sets", "bfloat16", "order"), MACHINES)
def test_what_a_processor_has(
    clean: pytest.MonkeyPatch,
    vendor: str,
    flags: str,
    sets: tuple[str, ...],
    bfloat16: bool,
    order: str | None,
) -> None:
    pretend(clean, vendor, flags)
    assert processor.supported() == processor.allowed() == sets
    assert processor.has_bfloat16_products() is bfloat16
    assert processor.fix_product_order() == order
    assert os.environ.get(processor.PRODUCT_ORDER) == order


@pytest.mark.parametrize(
    ("limit", "sets", "bfloat16", "order"),
    [
        ("auto", ("amx", "avx512", "avx2", "baseline"), True, "AVX512,STRICT"),
        ("amx", ("amx", "avx512", "avx2", "baseline"), True, "AVX512,STRICT"),
        ("avx512", ("avx512", "avx2", "baseline"), False, "AVX512,STRICT"),
        ("avx2", ("avx2", "baseline"), False, "AVX2,STRICT"),
        ("baseline", ("baseline",), False, None),
    ],
)
def test_a_limit_makes_a_lesser_processor_of_it(
    clean: pytest.MonkeyPatch, limit: str, sets: tuple[str, ...], bfloat16: bool, order: str | None
) -> None:
    pretend(clean, INTEL, AMX)
    clean.setenv(processor.WAIT_POLICY, "passive")
    processor.prepare()  # as at import: the order is that of the whole processor
    assert os.environ[processor.PRODUCT_ORDER] == "AVX512,STRICT"
    processor.limit_instruction_set(limit)
    assert processor.allowed() == sets
    assert processor.has_bfloat16_products() is bfloat16
    assert os.environ.get(processor.PRODUCT_ORDER) == order
    assert os.environ.get("ATEN_CPU_CAPABILITY") == {"avx2": "avx2", "baseline": "default"}.get(
        limit
    )


def test_a_limit_can_be_raised_again(clean: pytest.MonkeyPatch) -> None:
    pretend(clean, INTEL, AMX)
    clean.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")  # of the user: kept
    processor.limit_instruction_set("avx2")
    assert os.environ["MKL_ENABLE_INSTRUCTIONS"] == "AVX2"
    processor.limit_instruction_set("amx")
    assert "MKL_ENABLE_INSTRUCTIONS" not in os.environ
    assert os.environ[processor.PRODUCT_ORDER] == "AVX512,STRICT"
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"


def test_an_instruction_set_that_is_not_there_is_refused(clean: pytest.MonkeyPatch) -> None:
    pretend(clean, AMD, AVX2)
    with pytest.raises(ConfigError, match=r"auto or one of avx2, baseline on .*, got 'avx512'"):
        processor.limit_instruction_set("avx512")
    assert processor.VARIABLE not in os.environ
    assert processor.allowed() == ("avx2", "baseline")


def test_what_the_environment_says_of_the_order_is_kept(clean: pytest.MonkeyPatch) -> None:
    clean.setenv(processor.PRODUCT_ORDER, "COMPATIBLE")
    pretend(clean, INTEL, AMX)
    assert processor.fix_product_order() == "COMPATIBLE"


def told(limit: str, **environment: str) -> dict[str, object]:
    """Instruction sets of torch and our library in a new process with a limit."""
    code = """
import json, os
import osa.model
import torch
from osa.model.kernels import native
from osa.model.processor import has_fast_bfloat16
print(json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "native": None if isinstance(native.library(), str) else native.instruction_set(),
    "sets": native.instruction_sets(),
    "bfloat16": has_fast_bfloat16("cpu"),
    "wait": os.environ["OMP_WAIT_POLICY"],
}))
"""
    settled = {"OMP_WAIT_POLICY", *(name for names in processor._LIMITS.values() for name in names)}
    inherited = {name: value for name, value in os.environ.items() if name not in settled}
    values = {**inherited, "OSA_MODEL__INSTRUCTION_SET": limit, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=values, capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "limit", [name for name in ("avx2", "baseline") if name in processor.allowed()]
)
def test_torch_and_the_library_keep_to_the_limit(limit: str) -> None:
    found = told(limit)
    assert found["torch"] == {"avx2": "AVX2", "baseline": "DEFAULT"}[limit]
    assert found["native"] in (None, limit)
    assert found["bfloat16"] is False
    assert found["wait"] == "passive"


def test_idle_threads_spin_where_the_environment_says_so() -> None:
    assert told("auto", OMP_WAIT_POLICY="active")["wait"] == "active"


def test_the_library_uses_nothing_above_the_limit() -> None:
    if isinstance(native.library(), str):
        assert native.instruction_sets() == ()
        return
    families = {name.split("_")[0] for name in native.instruction_sets()}
    assert families <= set(processor.allowed())
    assert native.instruction_set().split("_")[0] in processor.allowed()


def test_bfloat16_is_fast_where_the_processor_says_so() -> None:
    assert has_fast_bfloat16("cpu") is processor.has_bfloat16_products()
    if not os.environ.get(processor.VARIABLE):
        capabilities = torch.cpu.get_capabilities()
        vectors = capabilities.get("avx512_bf16") and not processor.is_intel()
        native_products = capabilities.get("amx_bf16") or vectors
        assert processor.has_bfloat16_products() is bool(native_products)


def test_the_server_refuses_what_it_has_not(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretend(clean, AMD, AVX2)
    arguments = ["--set", "model.instruction_set=amx", "--output", str(tmp_path / "x.parquet")]
    (tmp_path / "texts.txt").write_text("a text\n")
    assert main(["embed", str(tmp_path / "texts.txt"), *arguments]) == 2
    assert "one of avx2, baseline on this processor, got 'amx'" in capsys.readouterr().err
