"""Counts what a batch launches on a CUDA device, on a machine that has none.

Tensors are fake: they have shapes, types and the device ``cuda``, and no memory. Whatever would
read them on the host raises, so what runs here to its end waits for nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from osa.model import EmbeddingModel
from osa.model.config import EncoderConfig
from osa.model.inference.device_layout import Layout, Shape, shape_of
from osa.model.inference.device_pass import DevicePass
from osa.model.kernels.gpu import forward, launch
from osa.model.kernels.gpu.short import SHORT_TOKENS
from osa.model.layers.initialization import shapes_alone

NOTHING = {"empty", "empty_strided", "new_empty", "empty_like", "detach", "_unsafe_view", "lift"}
"""Operators that launch nothing, beside views."""


class LaunchCounter(TorchDispatchMode):
    """Counts operators that launch a kernel or a copy.

    Attributes:
        launched: How often each was.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch ships no type of it
        self.launched: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (func.is_view or name in NOTHING):
            self.launched[name] += 1
            for part in result if isinstance(result, tuple) else (result,):
                assert part.device.type == "cuda", f"{name} brings numbers to the host"
        return result

    @property
    def total(self) -> int:
        """Launches of everything."""
        return sum(self.launched.values())

    @contextlib.contextmanager
    def counting(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Within the block count, and launch no Triton kernel."""

        def count(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
            assert programs > 0
            tensors = [part for part in arguments if isinstance(part, torch.Tensor)]
            assert all(part.device.type == "cuda" for part in tensors)
            self.launched[kernel.__name__] += 1

        patch.setattr(launch, "launch", count)
        patch.setattr(forward, "launch", count)
        for module in (launch, forward):
            patch.setattr(module, "on_device", lambda tensor: contextlib.nullcontext())
        with self:
            yield


def on_fake_device(config: EncoderConfig) -> EmbeddingModel:
    """A model whose weights are fake tensors of a CUDA device; within a ``FakeTensorMode``."""
    with no_dispatch(), shapes_alone():
        model = EmbeddingModel(config)
    for module in model.modules():
        for name, part in module._parameters.items():
            if part is not None:
                fake = torch.empty(part.shape, dtype=part.dtype, device="cuda")
                module._parameters[name] = nn.Parameter(fake, requires_grad=False)
    return model.eval()


def count_pass(
    config: EncoderConfig,
    lengths: list[int],
    patch: pytest.MonkeyPatch,
    fixed_products: bool = True,
    may_double: bool = False,
) -> Counter[str]:
    """What one batch of sequences of these lengths launches, in bfloat16."""
    patch.setattr(DevicePass, "_may_double", lambda self, mixer, alpha: may_double)
    shape: Shape = shape_of(lengths, SHORT_TOKENS)
    counter = LaunchCounter()
    with FakeTensorMode(), torch.inference_mode():
        forward_pass = DevicePass(on_fake_device(config), torch.bfloat16, fixed_products)
        batch = Layout.empty(shape, config.feature_size, torch.device("cuda"))
        with counter.counting(patch):
            output = forward_pass.run(batch)
    assert output.embeddings.shape == (shape.sequences, config.output_size)
    assert output.hidden.shape == (shape.tokens, config.hidden_size)
    return counter.launched
