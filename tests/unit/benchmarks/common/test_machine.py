"""Facts of the machine."""

from __future__ import annotations

import pytest

from benchmarks.common.machine import hardware_slug, processor_facts


@pytest.mark.parametrize(
    ("processor", "flags", "capability", "gpu", "slug"),
    [
        ("Intel(R) Xeon(R) Processor", {"amx_tile"}, "AVX512", "", "cpu-xeon-amx"),
        ("AMD EPYC 9654 96-Core Processor", set(), "AVX512", "", "cpu-epyc-avx512"),
        ("13th Gen Intel(R) Core(TM) i7", set(), "AVX2", "", "cpu-core-avx2"),
        ("aarch64", set(), "DEFAULT", "", "cpu-aarch64-default"),
        ("any", set(), "AVX2", "NVIDIA H100 80GB HBM3", "gpu-h100"),
        ("any", set(), "AVX2", "NVIDIA GeForce RTX 4090", "gpu-rtx-4090"),
    ],
)
def test_hardware_has_a_short_name(
    processor: str, flags: set[str], capability: str, gpu: str, slug: str
) -> None:
    assert hardware_slug(processor, frozenset(flags), capability, gpu) == slug


def test_processor_is_read_from_the_system() -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: avx2 amx_tile\n\nprocessor\t: 1\n"
    assert processor_facts(text) == ("Some CPU", frozenset({"avx2", "amx_tile"}))
    assert processor_facts("")[0]
