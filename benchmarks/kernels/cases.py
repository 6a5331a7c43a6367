"""The measured shapes, and random operands of a shape.

A case is a batch of ``tokens`` tokens in sequences of ``length``. Layouts: ``padded`` is a batch
[B, H, N, d]; ``packed`` is the same sequences concatenated [1, H, T, d], with ``cu_seqlens``;
``mixed`` packs sequences of 1/16 to 1 times ``length``. Memory is token-major, as in the encoder.
Shapes: B batch, H heads, N tokens of a sequence, T packed tokens, d head width.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model.functional.varlen import cu_seqlens_of

Layout = Literal["padded", "packed", "mixed"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_TOKENS = 4096
GPU_TOKENS = 65536
ALPHA = 0.25
SCALE = "length"
NOISE = 0.5
"""Scale of the independent part of a row; the rest lies in few directions, as after training."""


@dataclass(frozen=True)
class Case:
    """One shape.

    Attributes:
        head_dim: Width of a head, d.
        length: Tokens of a sequence; of the longest one if lengths are mixed.
        dtype: Name of the operands' type.
        layout: Memory layout of the batch.
        budget: Tokens of the batch, unless one sequence is longer.
        heads: Number of heads.
    """

    head_dim: int
    length: int
    dtype: str
    layout: Layout = "padded"
    budget: int = CPU_TOKENS
    heads: int = 12

    @property
    def name(self) -> str:
        """Short unique name, for ``--cases`` and tables."""
        layout = "" if self.layout == "padded" else f"-{self.layout}"
        tokens = "" if self.budget == CPU_TOKENS else f"-t{self.budget}"
        return f"d{self.head_dim}-n{self.length}{layout}{tokens}-{self.dtype}"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of every sequence."""
        if self.layout != "mixed":
            return (self.length,) * max(1, self.budget // self.length)
        # Steps through sixteenths in an order that does not rise; the first is the longest.
        found: list[int] = []
        while not found or sum(found) < self.budget:
            found.append(max(1, self.length * (16 - 7 * len(found) % 16) // 16))
        return tuple(found)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(self.lengths)


ACCEPTANCE = {
    32: (8, 16, 32, 64, 128, 512, 2048, 8192, 32768),
    64: (32, 128, 512, 4096, 16384),
    128: (512, 4096),
}
SHORT = (8, 16, 32, 64)
MIXED = (64, 512)
QUICK = {32: (8, 64, 512, 2048), 64: (512,)}


def make_cases(device: str, dtypes: Sequence[str], quick: bool = False) -> list[Case]:
    """All cases of a device, in the order of the report."""
    grid = QUICK if quick else ACCEPTANCE
    cases = []
    for dtype in dtypes:
        for head_dim, lengths in grid.items():
            cases += [Case(head_dim, length, dtype) for length in lengths]
        cases += [Case(32, n, dtype, "packed") for n in ((32,) if quick else SHORT)]
        cases += [Case(32, n, dtype, "mixed") for n in ((512,) if quick else MIXED)]
    if device == "cuda" and not quick:
        cases += [Case(64, 131072, dtype) for dtype in dtypes]
        cases += [Case(64, n, dtype, "mixed", GPU_TOKENS) for dtype in dtypes for n in (2048,)]
        if "bfloat16" in dtypes:
            lengths = (512, 2048, 8192, 32768)
            cases += [Case(64, n, "bfloat16", budget=GPU_TOKENS) for n in lengths]
    return cases


def select(cases: Iterable[Case], patterns: Sequence[str]) -> list[Case]:
    """Cases whose name matches one of the shell patterns; all cases without patterns."""
    return [
        case
        for case in cases
        if not patterns or any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)
    ]


@dataclass(frozen=True)
class Operands:
    """Operands of one case.

    Attributes:
        query: Padded batch [B, H, N, d].
        key: Padded batch [B, H, N, d].
        value: Padded batch [B, H, N, d].
        alpha: Angle scale of each head [H].
        mask: True at real tokens [B, N]; None without padding.
        packed: query, key and value [1, H, T, d]; None for a padded case.
        cu_seqlens: Offsets of the packed sequences [B + 1]; None for a padded case.
        lengths: Tokens of every sequence.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    alpha: Tensor
    mask: Tensor | None
    packed: tuple[Tensor, Tensor, Tensor] | None
    cu_seqlens: Tensor | None
    lengths: tuple[int, ...]

    @property
    def states(self) -> tuple[Tensor, Tensor, Tensor]:
        """query, key and value [B, H, N, d]."""
        return self.query, self.key, self.value

    def sequence_of(self, output: Tensor, row: int, head: int) -> Tensor:
        """The part of one sequence and head [1, 1, n, d], of a padded or a packed output."""
        length = self.lengths[row]
        if self.packed is not None and output.shape[2] == sum(self.lengths) != self.query.shape[2]:
            start = sum(self.lengths[:row])
            return output[:1, head : head + 1, start : start + length]
        return output[row : row + 1, head : head + 1, :length]


def _rotate_90(states: Tensor) -> Tensor:
    left, right = states.chunk(2, dim=-1)
    return torch.cat([-right, left], dim=-1)


def make_operands(case: Case, device: str = "cpu", seed: int = 0) -> Operands:
    """Random operands with angles as in the packaged model, 0.2 to 1 rad.

    Queries lie mostly in few directions, keys in the same directions rotated by 90 degrees, both
    normalised to unit RMS; with independent rows the angle would decrease with the length.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, length, heads, width = len(case.lengths), max(case.lengths), case.heads, case.head_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rank = max(4, width // 16)
    half = normal(heads, rank // 2, width) / math.sqrt(rank)
    basis = torch.cat([half, _rotate_90(half)], dim=-2)
    shared = torch.einsum("bnhr,hrd->bnhd", normal(batch, length, heads, rank), basis)
    query, key, value = (
        F.rms_norm(shared + NOISE * normal(*shared.shape), (width,), eps=1e-6),
        F.rms_norm(_rotate_90(shared) + NOISE * normal(*shared.shape), (width,), eps=1e-6),
        normal(*shared.shape),
    )
    rows = [part.to(device, DTYPES[case.dtype]) for part in (query, key, value)]
    mask = torch.arange(length)[None, :] < torch.tensor(case.lengths)[:, None]
    mask = mask.to(device)
    padded = not bool(mask.all())
    if padded:
        rows = [row.masked_fill(~mask[:, :, None, None], 0.0) for row in rows]
    packed = cu_seqlens = None
    if case.layout != "padded":
        query, key, value = (row[mask].transpose(0, 1)[None] for row in rows)
        packed = (query, key, value)
        cu_seqlens = cu_seqlens_of(case.lengths, torch.device(device))
    query, key, value = (row.transpose(1, 2) for row in rows)
    alpha = torch.full((heads,), ALPHA, device=device)
    return Operands(
        query, key, value, alpha, mask if padded else None, packed, cu_seqlens, case.lengths
    )
