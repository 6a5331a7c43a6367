"""Cases and contenders of the kernel benchmark: which shapes, which operands, which refusals."""

from __future__ import annotations

import pytest
import torch

from benchmarks.kernels.backward import backward_cases
from benchmarks.kernels.cases import ACCEPTANCE, Case, Layout, make_cases, make_operands, select
from benchmarks.kernels.ceilings import bytes_of, operations_of
from benchmarks.kernels.contenders import CONTENDERS, Contender, attempt, compute_osa, refusal
from benchmarks.kernels.parity import angle_of, check, pick

BY_NAME = {part.name: part for part in CONTENDERS}


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
    for row, head in pick(case):
        whole = operands.sequence_of(operands.query, row, head)
        assert whole.shape == (1, 1, case.lengths[row], 32)
        if operands.packed is not None:
            torch.testing.assert_close(operands.sequence_of(operands.packed[0], row, head), whole)


@pytest.mark.parametrize(("width", "length"), [(32, 8), (32, 512), (64, 128), (128, 512)])
def test_angles_are_those_of_the_packaged_model(width: int, length: int) -> None:
    case = Case(width, length, "float32", budget=64)
    assert 0.2 < angle_of(make_operands(case), pick(case)) < 1.1


@pytest.mark.parametrize("layout", ["padded", "packed", "mixed"])
@pytest.mark.parametrize("length", [8, 100])
def test_every_exact_contender_is_exact(layout: Layout, length: int) -> None:
    result = check(Case(32, length, "float32", layout, budget=200, heads=2), CONTENDERS, "cpu")
    assert set(result.errors) == {"osa", "osa_gram", "osa_qr"}
    assert result.red == []


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_wrong_result_is_red(value: float) -> None:
    """Also where it is wrong beyond the sequences that are compared, if not finite."""

    def wrong(operands: object) -> torch.Tensor:
        result = torch.zeros(2, 2, 8, 32)
        return result.fill_(value)

    contender = Contender("osa", wrong, exact=True, gated=True)
    result = check(Case(32, 8, "float32", budget=16, heads=2), [contender], "cpu")
    assert result.red == ["osa"]


@pytest.mark.parametrize(
    ("name", "case", "reason"),
    [
        ("osa_qr", Case(32, 64, "bfloat16"), "float32 only"),
        ("osa_qr", Case(32, 8192, "float32"), "over 2048 tokens"),
        ("osa_qr", Case(32, 2048, "float32"), None),
        ("sdpa-cudnn", Case(32, 64, "float32"), "no such backend here"),
        ("sdpa-buckets", Case(32, 64, "float32"), "for mixed lengths"),
        ("sdpa-buckets", Case(32, 64, "float32", "mixed"), None),
        ("sdpa-math", Case(32, 32768, "float32"), "over 16384 tokens"),
        ("sdpa-math", Case(32, 16384, "float32"), "scores need 36 GiB"),
        ("sdpa-math", Case(32, 64, "float32"), None),
        ("osa", Case(32, 131072, "float32"), None),
    ],
)
def test_refusals(name: str, case: Case, reason: str | None) -> None:
    assert refusal(BY_NAME[name], case, "cpu", free_bytes=16e9) == reason


def test_a_backend_may_refuse_and_the_operator_may_not() -> None:
    def fail() -> float:
        raise RuntimeError("no kernel")

    assert attempt(BY_NAME["sdpa-flash"], fail) == "refused by the backend"
    with pytest.raises(RuntimeError, match="no kernel"):
        attempt(BY_NAME["osa"], fail)
    assert attempt(BY_NAME["sdpa-math"], lambda: 1.0) == 1.0


@pytest.mark.parametrize(
    ("layout", "shape"), [("padded", (4, 2, 8, 32)), ("packed", (1, 2, 32, 32))]
)
def test_the_operator_gets_packed_sequences_where_there_are(
    layout: Layout, shape: tuple[int, ...]
) -> None:
    case = Case(32, 8, "float32", layout, budget=32, heads=2)
    assert compute_osa(make_operands(case)).shape == shape


def test_counts_follow_the_formula() -> None:
    case = Case(32, 512, "bfloat16", budget=1024, heads=3)
    assert bytes_of(case) == 4 * 1024 * 3 * 32 * 2
    more = operations_of(case, 2.0) - operations_of(case, 0.5)
    assert more > 0
    assert more % (8 * 32**3 * 2 * 3) == 0
    short = Case(32, 8, "float32", budget=8, heads=1)
    assert (operations_of(short, 0.5) - 4 * 8**2 * 32) % (2 * 8**2 * 32) == 0
