"""``osa::attention`` over a sequence that comes in chunks, by the library of ``native``.

``csrc/osa_stream.h`` specifies it. Sums are made in the order of a whole sequence: chunks of whole
tiles of ``SUM_TILE`` tokens, but for the last one, give its bits whatever their sizes.

Shapes: n tokens of a chunk, H heads, d head width.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int32, c_int64, c_void_p
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from osa.model.errors import InputError
from osa.model.kernels import is_allowed, native
from osa.model.kernels.native import ABI_VERSION, DTYPES, SCALES, Operand, library, parallel

SUM_TILE = 256
"""Chunks are multiples of it, but for the last one [tokens]."""
MEANS, SUMS, CLOSE, WEIGHTS, APPLY = range(5)


class Call(ctypes.Structure):
    """``OsaStreamCall`` of ``csrc/osa_stream.h``, field by field."""

    _fields_ = (
        ("chunk", native.Call),
        ("means", c_void_p),
        ("sums", c_void_p),
        ("open", c_void_p),
        ("weights", c_void_p),
        ("precise", c_void_p),
        ("first", c_int64),
        ("count", c_int64),
        ("stage", c_int32),
        ("round", c_int32),
    )


class Accumulators(NamedTuple):
    """What one layer keeps of a sequence; all in double on the CPU, and contiguous.

    Attributes:
        means: Of queries and keys; sums of them until all tokens are known.
        sums: [G | T], of G what is on and above the diagonal.
        open: Of the last tokens, which are not in ``sums`` yet.
        weights: W.
        precise: Heads whose sums and weights are computed in double.
    """

    means: Float[Tensor, "H 2 d"]
    sums: Float[Tensor, "H 2d 3d"]
    open: Float[Tensor, "H 2d 3d"]
    weights: Float[Tensor, "H 2d d"]
    precise: UInt8[Tensor, " H"]

    @classmethod
    def empty(cls, heads: int, head_dim: int) -> Accumulators:
        """Of no tokens."""
        return cls(
            torch.zeros(heads, 2, head_dim, dtype=torch.float64),
            torch.zeros(heads, 2 * head_dim, 3 * head_dim, dtype=torch.float64),
            torch.zeros(heads, 2 * head_dim, 3 * head_dim, dtype=torch.float64),
            torch.zeros(heads, 2 * head_dim, head_dim, dtype=torch.float64),
            torch.zeros(heads, dtype=torch.uint8),
        )


def supports(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether chunks of such operands are computed: float32 and bfloat16 on a CPU."""
    if device.type != "cpu" or dtype not in DTYPES or head_dim > native.MAX_HEAD_DIM:
        return False
    return is_allowed("native") and not isinstance(library(), str)


class Chunks:
    """Calls about the chunks of one sequence, of one layer."""

    def __init__(self, alpha: Float[Tensor, " H"], scale: str, center: bool, head_dim: int) -> None:
        """Begin a sequence.

        Args:
            alpha: Angle of each head.
            scale: ``paper`` or ``length``.
            center: Whether means of queries and keys are subtracted.
            head_dim: Width of a head.
        """
        self._alpha = alpha.detach().to("cpu", torch.float32).clone()
        self.kept = kept = Accumulators.empty(len(alpha), head_dim)
        self._added = 0
        self._call = Call(
            means=kept.means.data_ptr(),
            sums=kept.sums.data_ptr(),
            open=kept.open.data_ptr(),
            weights=kept.weights.data_ptr(),
            precise=kept.precise.data_ptr(),
        )
        chunk = self._call.chunk
        chunk.abi_version, chunk.batch = ABI_VERSION, 1
        chunk.alpha, chunk.heads, chunk.head_dim = self._alpha.data_ptr(), len(alpha), head_dim
        chunk.scale, chunk.center, chunk.parallel = SCALES[scale], int(center), parallel()

    def over(
        self,
        stage: int,
        query: Float[Tensor, "n H d"],
        key: Float[Tensor, "n H d"],
        value: Float[Tensor, "n H d"],
        turn: int = 0,
    ) -> Tensor | None:
        """Compute a stage over a chunk; ``APPLY`` returns the mixed heads [n, H, d].

        Args:
            stage: ``MEANS``, ``SUMS`` or ``APPLY``.
            query: Queries; the last stride of all is 1.
            key: Keys.
            value: Values.
            turn: As ``round`` of the interface.

        Raises:
            InputError: No library, or memory is exhausted.
        """
        chunk, output = self._call.chunk, None
        chunk.length, chunk.dtype = len(query), DTYPES[query.dtype]
        chunk.query, chunk.key, chunk.value = map(_operand, (query, key, value))
        if stage == SUMS:
            self._call.first = self._added
            self._added += len(query)
        if stage == APPLY:
            output = torch.empty(query.shape, dtype=query.dtype)
            chunk.output = _operand(output)
        self._run(stage, turn)
        return output

    def close_sums(self, dtype: torch.dtype, turn: int) -> None:
        """End the sums of a round, so that they can be exchanged; raises as ``over``."""
        self._call.chunk.length, self._call.chunk.dtype = 0, DTYPES[dtype]
        self._added = 0
        self._run(CLOSE, turn)

    def make_weights(self, dtype: torch.dtype, count: int, turn: int) -> None:
        """Make weights of the sums of a sequence of ``count`` tokens; raises as ``over``."""
        self._call.chunk.length, self._call.chunk.dtype = 0, DTYPES[dtype]
        self._call.count = count
        self._run(WEIGHTS, turn)

    def _run(self, stage: int, turn: int) -> None:
        loaded = library()
        if isinstance(loaded, str):
            raise InputError(f"the CPU kernel {loaded}")
        self._call.stage, self._call.round = stage, turn
        self._call.chunk.threads = torch.get_num_threads()
        loaded.osa_stream.argtypes, loaded.osa_stream.restype = [POINTER(Call)], c_int
        code = loaded.osa_stream(ctypes.byref(self._call))
        if code:
            raise InputError(f"osa_stream: {loaded.osa_attention_error(code).decode()}")


def _operand(states: Float[Tensor, "n H d"]) -> Operand:
    token, head, _ = states.stride()
    return Operand(states.data_ptr(), 0, head, token)
