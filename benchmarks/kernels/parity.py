"""Errors against float64, checked before anything is timed.

    error = max |y - y64| / max |y64|

over the first and the last sequence and head; the operator itself always runs the whole case. The
truth is ``osa_dense`` up to 2048 tokens and ``osa_gram`` in float64 beyond, of the operands as
they were rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.kernels.cases import SCALE, Case, Operands, make_operands
from benchmarks.kernels.contenders import Contender, refusal
from osa.model.functional.attention import angle_factor, gram_matrix, osa_dense, osa_gram, times_j

TOLERANCES = {"float32": 2e-6, "bfloat16": 1e-2, "float16": 1e-2}
DENSE_LIMIT = 2048
ONE_HEAD_FROM = 512
"""From this length on one sequence and head is enough: the dense truth costs N^3."""

Picks = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Parity:
    """Errors of one case.

    Attributes:
        case: What was computed.
        angle: Largest angle of the sequences looked at [rad].
        errors: By contender.
        gated: Contenders that must keep the tolerance.
    """

    case: Case
    angle: float
    errors: Mapping[str, float]
    gated: frozenset[str]

    @property
    def tolerance(self) -> float:
        """Largest allowed error."""
        return TOLERANCES[self.case.dtype]

    @property
    def red(self) -> list[str]:
        """Gated contenders over the tolerance; NaN is over it."""
        return [
            name
            for name, error in self.errors.items()
            if name in self.gated and not error <= self.tolerance
        ]


def pick(case: Case) -> Picks:
    """(sequence, head) pairs that are compared."""
    rows = sorted({0, len(case.lengths) - 1})
    heads = sorted({0, case.heads - 1})
    pairs = tuple((row, head) for row in rows for head in heads)
    return pairs[-1:] if case.length >= ONE_HEAD_FROM else pairs


def operand_of(operands: Operands, row: int, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """query, key, value [1, 1, n, d] and alpha [1] of one sequence and head, in float64."""
    length = operands.lengths[row]
    query, key, value = (
        part[row : row + 1, head : head + 1, :length].double() for part in operands.states
    )
    return query, key, value, operands.alpha[head : head + 1].double()


def truth_of(operands: Operands, row: int, head: int) -> Tensor:
    """The result in float64 [1, 1, n, d]."""
    parts = operand_of(operands, row, head)
    function = osa_dense if operands.lengths[row] <= DENSE_LIMIT else osa_gram
    return function(*parts, scale=SCALE)


def angle_of(operands: Operands, picks: Picks) -> float:
    """Largest angle of S [rad] among the picked: its eigenvalues are those of c G J."""
    largest = 0.0
    for row, head in picks:
        query, key, _, alpha = operand_of(operands, row, head)
        factor = angle_factor(query, alpha, None, SCALE)[..., None, None]
        values = torch.linalg.eigvals((factor * times_j(gram_matrix(query, key))).cpu())
        largest = max(largest, float(values.imag.abs().max()))
    return largest


def error_of(output: Tensor, truths: Mapping[tuple[int, int], Tensor], operands: Operands) -> float:
    """Largest relative error over the picked; NaN where any value of the output is not finite."""
    if not bool(torch.isfinite(output).all()):
        return math.nan
    errors = [
        (operands.sequence_of(output, row, head).double() - truth).abs().max() / truth.abs().max()
        for (row, head), truth in truths.items()
    ]
    return float(torch.stack(errors).max())


@torch.inference_mode()
def check(case: Case, contenders: Sequence[Contender], device: str) -> Parity:
    """Errors of every contender that computes exp(S) V and runs this case."""
    operands, picks = make_operands(case, device), pick(case)
    truths = {place: truth_of(operands, *place) for place in picks}
    exact = [part for part in contenders if part.exact and refusal(part, case, device) is None]
    errors = {part.name: error_of(part.compute(operands), truths, operands) for part in exact}
    gated = frozenset(part.name for part in exact if part.gated)
    return Parity(case, angle_of(operands, picks), errors, gated)
