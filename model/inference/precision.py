"""The dtype that a loaded model computes its products in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from osa.model import processor
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.inference.bfloat16 import use_bfloat16
from osa.model.inference.bfloat16_linear import Bfloat16Linear
from osa.model.inference.packed_blocks import PackedBlocks, can_pack
from osa.model.kernels import is_allowed, native
from osa.model.kernels.packed_weights import DTYPES
from osa.model.layers.block import Block
from osa.model.layers.mixers.base import Mixer

BFLOAT16_PRODUCTS = ("amx", "avx512_bf16", "baseline_bf16")
"""Product sets that multiply bfloat16 natively; the others multiply floats of the same values."""


def use_dtype(model: EmbeddingModel, dtype: str) -> EmbeddingModel:
    """Make ``model`` compute products in ``dtype``, in place; it is then neither trained nor saved.

    On CPUs its weights are packed for the CPU kernel where that is built. Elsewhere those of
    float32 stay as they are.

    Args:
        model: Loaded in float32, on the device where it runs.
        dtype: ``float32``, ``bfloat16``, or ``int8``.

    Raises:
        ConfigError: Another dtype, or int8 where there is no CPU kernel for the model.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    blocks = [block for block in model.encoder.blocks if isinstance(block, Block)]
    device = next(model.parameters()).device.type
    packs = device == "cpu" and is_allowed("native") and can_pack(blocks)
    if packs and not (dtype == "bfloat16" and _onednn_is_faster()):
        packed = PackedBlocks(blocks, model.encoder.norm, dtype)
        model.encoder.blocks, model.encoder.norm = nn.ModuleList([packed]), nn.Identity()
        model.encoder.adds_fillers = isinstance(model.encoder.embed, nn.Linear)  # torch's product
    elif dtype == "int8":
        raise ConfigError(
            "dtype int8 needs the CPU kernel, which has heads of at most 128 features and residual "
            f"add or none: take float32 or bfloat16 on this {device}"
        )
    elif dtype == "bfloat16":
        return use_bfloat16(model)
    return model.requires_grad_(False)


def name_products(model: EmbeddingModel) -> str:
    """What computes a model's products with weights: ``native`` with its variant, or ``torch``.

    Args:
        model: Of ``use_dtype``.
    """
    packed = any(isinstance(module, PackedBlocks) for module in model.encoder.blocks)
    return native.describe_products() if packed else "torch"


def _onednn_is_faster() -> bool:
    """Whether the processor multiplies bfloat16, but the CPU kernel was built without that."""
    built = native.product_set() in BFLOAT16_PRODUCTS
    return not built and processor.has_bfloat16_products()


@contextlib.contextmanager
def in_float32(model: EmbeddingModel) -> Iterator[None]:
    """Within the block a model of ``use_dtype`` computes in float32; not thread-safe.

    The weights are those before they were rounded where these were kept; packed ones were not.
    """
    modules = [
        module for module in model.modules() if isinstance(module, Bfloat16Linear | PackedBlocks)
    ]
    mixers = [module for module in model.modules() if isinstance(module, Mixer)]
    before = [mixer.operand_dtype for mixer in mixers]
    for module in modules:
        module.exact = True
    for mixer in mixers:
        mixer.operand_dtype = None
    try:
        yield
    finally:
        for module in modules:
            module.exact = False
        for mixer, dtype in zip(mixers, before, strict=True):
            mixer.operand_dtype = dtype
