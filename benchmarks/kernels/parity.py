"""Errors against float64, checked before anything is timed.

    error = max |y - y64| / max |y64|

over the first and the last sequence and head; the operator always runs the whole case. The
reference is computed in float64 from the rounded operands: by ``osa_dense`` up to 2048 tokens, by
``osa_gram`` beyond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.kernels.cases import SCALE, Case, Operands, make_operands
from benchmarks.kernels.implementations import Implementation, refusal
from osa.model.functional.attention import angle_factor, gram_matrix, osa_dense, osa_gram, times_j

TOLERANCES = {"float32": 2e-6, "bfloat16": 1e-2, "float16": 1e-2}
DENSE_LIMIT = 2048
ONE_HEAD_FROM = 512
"""From this length on, one sequence and head is compared: the dense reference costs N^3."""

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Parity:
    """Errors of one case.

    Attributes:
        case: The case.
        angle: Largest angle of the compared sequences [rad].
        errors: Relative error by implementation.
        gated: Implementations whose error must be within the tolerance.
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
    def failed(self) -> list[str]:
        """Gated implementations whose error exceeds the tolerance; NaN does."""
        return [
            name
            for name, error in self.errors.items()
            if name in self.gated and not error <= self.tolerance
        ]


def compared_pairs(case: Case) -> Pairs:
    """Pairs (sequence, head) that are compared."""
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


def reference_of(operands: Operands, row: int, head: int) -> Tensor:
    """The output of one sequence and head in float64 [1, 1, n, d]."""
    parts = operand_of(operands, row, head)
    function = osa_dense if operands.lengths[row] <= DENSE_LIMIT else osa_gram
    return function(*parts, scale=SCALE)


def angle_of(operands: Operands, pairs: Pairs) -> float:
    """Largest angle of S [rad] over the pairs: the eigenvalues of S are those of c G J."""
    largest = 0.0
    for row, head in pairs:
        query, key, _, alpha = operand_of(operands, row, head)
        factor = angle_factor(query, alpha, None, SCALE)[..., None, None]
        values = torch.linalg.eigvals((factor * times_j(gram_matrix(query, key))).cpu())
        largest = max(largest, float(values.imag.abs().max()))
    return largest


def relative_error(output: Tensor, reference: Tensor) -> Tensor:
    """Largest difference from a float64 reference over the largest value of the reference []."""
    return (output.double() - reference).abs().max() / reference.abs().max()


def error_of(
    output: Tensor, references: Mapping[tuple[int, int], Tensor], operands: Operands
) -> float:
    """Largest relative error over the pairs; NaN if any value of the output is not finite."""
    if not bool(torch.isfinite(output).all()):
        return math.nan
    errors = [
        relative_error(operands.sequence_of(output, row, head), reference)
        for (row, head), reference in references.items()
    ]
    return float(torch.stack(errors).max())


@torch.inference_mode()
def check(case: Case, implementations: Sequence[Implementation], device: str) -> Parity:
    """Errors of every exact implementation that runs this case; ``device`` is cpu or cuda."""
    operands, pairs = make_operands(case, device), compared_pairs(case)
    references = {pair: reference_of(operands, *pair) for pair in pairs}
    exact = [part for part in implementations if part.exact and refusal(part, case, device) is None]
    errors = {part.name: error_of(part.compute(operands), references, operands) for part in exact}
    gated = frozenset(part.name for part in exact if part.gated)
    return Parity(case, angle_of(operands, pairs), errors, gated)
