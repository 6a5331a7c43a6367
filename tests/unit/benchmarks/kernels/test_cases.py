"""The measured shapes and their operands."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernels.backward import backward_cases
from benchmarks.kernels.cases import ACCEPTANCE, Case, Layout, make_cases, make_operands, select
from benchmarks.kernels.parity import compared_pairs


def test_every_accepted_shape_is_a_case_of_both_devices() -> None:
    wanted = {
        (width, length, dtype)
        for width, lengths in ACCEPTANCE.items()
        for length in lengths
        for dtype in ("float32", "bfloat16")
    }
    for device in ("cpu", "cuda"):
        cases = make_cases(device, ("float32", "bfloat16"))
        padded = {(c.head_dim, c.length, c.dtype) for c in cases if c.layout == "padded"}
        assert wanted <= padded
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)


def test_a_gpu_is_filled() -> None:
    cases = make_cases("cuda", ("bfloat16",))
    full = [c for c in cases if c.head_dim == 64 and c.layout == "padded" and c.tokens >= 65536]
    assert {case.length for case in full} == {512, 2048, 8192, 32768, 131072}


def test_quick_is_a_small_part() -> None:
    quick = make_cases("cpu", ("float32",), quick=True)
    assert set(quick) < set(make_cases("cpu", ("float32",)))
    assert backward_cases(quick, quick=True)


@pytest.mark.parametrize("layout", ["padded", "packed", "mixed"])
@pytest.mark.parametrize("length", [8, 512, 8192])
def test_a_case_has_about_its_tokens(layout: Layout, length: int) -> None:
    case = Case(32, length, "float32", layout)
    assert max(case.lengths) == case.lengths[0] == length
    assert min(case.lengths) >= 1
    assert max(4096, length) <= case.tokens < max(4096, length) + length
    if layout == "mixed" and length == 512:
        assert len(set(case.lengths)) > 8


def test_cases_are_selected_by_pattern() -> None:
    cases = make_cases("cpu", ("float32",))
    assert select(cases, []) == cases
    assert [case.name for case in select(cases, ["d128-*"])] == [
        "d128-n512-float32",
        "d128-n4096-float32",
    ]
    assert select(cases, ["none"]) == []


@pytest.mark.parametrize("layout", ["padded", "packed", "mixed"])
def test_operands_are_token_major_and_agree_between_layouts(layout: Layout) -> None:
    case = Case(32, 16, "float32", layout, budget=64, heads=2)
    operands = make_operands(case)
    for part in (*operands.states, *(operands.packed or ())):
        assert part.transpose(1, 2).is_contiguous()
    assert (operands.mask is not None) == (layout == "mixed")
    for row, head in compared_pairs(case):
        whole = operands.sequence_of(operands.query, row, head)
        assert whole.shape == (1, 1, case.lengths[row], 32)
        if operands.packed is not None:
            torch.testing.assert_close(operands.sequence_of(operands.packed[0], row, head), whole)
