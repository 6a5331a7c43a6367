"""Products use few different numbers of rows, because oneDNN compiles code for each."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from osa.model import EmbeddingModel
from osa.model.functional.tiling import ROW_STEP, TOKEN_TILE, round_rows, rounded_rows
from osa.model.inference.bfloat16 import use_bfloat16
from osa.model.inference.precision import use_dtype
from osa.model.kernels.native_block import is_available

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.mm.out, torch.ops.aten.linear.default}


class ProductRows(TorchDispatchMode):
    """Notes the rows of every bfloat16 product."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in PRODUCTS and args[0].dtype == torch.bfloat16:
            self.seen.add(args[0].shape[:-1].numel())
        return func(*args, **(kwargs or {}))


def test_rows_are_rounded_up_by_an_eighth_or_a_tile_at_most() -> None:
    for count in range(3 * TOKEN_TILE):
        rounded = rounded_rows(count)
        assert count <= rounded < count + max(ROW_STEP, count / 8 + 1), count
        assert rounded_rows(rounded) == rounded, count
        assert rounded % ROW_STEP == 0, count


def test_they_come_to_few_numbers() -> None:
    assert len({rounded_rows(count) for count in range(1, TOKEN_TILE + 1)}) == 32


def test_full_tiles_stay_full() -> None:
    assert rounded_rows(2 * TOKEN_TILE) == 2 * TOKEN_TILE
    assert rounded_rows(2 * TOKEN_TILE + 1) == 2 * TOKEN_TILE + ROW_STEP


@pytest.mark.parametrize("shape", [(5,), (5, 3), (17, 2, 3)])
def test_what_is_added_is_zero(shape: tuple[int, ...]) -> None:
    rows = torch.rand(shape) + 1
    rounded = round_rows(rows)
    assert len(rounded) == rounded_rows(len(rows))
    assert torch.equal(rounded[: len(rows)], rows)
    assert not rounded[len(rows) :].any()


def multiplied_rows(model: EmbeddingModel) -> set[int]:
    """Rows of every bfloat16 product of torch for batches of many sizes."""
    with torch.inference_mode(), ProductRows() as products:
        for tokens in (1, 15, 16, 17, 130, 131, 132, 250, 700, 701, TOKEN_TILE + 3):
            model.embed_ids([[5] * tokens])
    seen: set[int] = products.seen
    return seen


def test_batches_of_any_size_multiply_few_numbers_of_rows(default_model: EmbeddingModel) -> None:
    """Each number of rows costs oneDNN 2.4 ms and 1.3 MB, which once grew a server by 1.2 GB."""
    model = use_bfloat16(copy.deepcopy(default_model), keep_float32=False)
    known = {16, 32, 144, 256, 704, TOKEN_TILE}
    assert known <= multiplied_rows(model) <= known | {rounded_rows(TOKEN_TILE + 3)}


@pytest.mark.skipif(not is_available(), reason="needs the CPU kernel")
def test_packed_blocks_leave_no_product_to_torch(default_model: EmbeddingModel) -> None:
    assert not multiplied_rows(use_dtype(copy.deepcopy(default_model), "bfloat16"))
