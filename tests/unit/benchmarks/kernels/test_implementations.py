"""The compared implementations, and why one does not run a case."""

from __future__ import annotations

import pytest

from benchmarks.kernels.cases import Case, Layout, make_operands
from benchmarks.kernels.implementations import (
    IMPLEMENTATIONS,
    attempt,
    compute_osa,
    refusal,
)

BY_NAME = {part.name: part for part in IMPLEMENTATIONS}


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
