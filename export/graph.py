"""The graph that is exported: token ids or features in, vectors or logits and token states out.

Two layouts, each one graph with dynamic sizes:

    packed   input_ids [tokens] (features [tokens, F]), cu_seqlens int32 [sequences + 1]
    padded   input_ids [batch, length] (features [batch, length, F]), attention_mask [batch, length]

Outputs: ``embeddings`` [sequences, E], ``norms`` [sequences] (lengths before normalising), and
``token_embeddings``, every token's own vector, projected and not normalised, [tokens, E] or
[batch, length, E]. Of a model with a head, ``embeddings`` are its logits [sequences, K] or weights,
and ``norms`` are 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from osa.export.errors import ExportError
from osa.export.layouts import LAYOUTS as LAYOUTS
from osa.export.layouts import Layout as Layout
from osa.export.layouts import TensorSpec as TensorSpec
from osa.export.layouts import input_specs as input_specs
from osa.export.layouts import output_specs as output_specs
from osa.model import EmbeddingModel
from osa.model.config import EncoderConfig
from osa.model.layers.mixers import MIXERS, kinds_of

OUTPUTS = ("embeddings", "norms", "token_embeddings")
LEAST = 2
"""torch.export specialises sizes 0 and 1, so smaller batches get a dummy sequence."""


def default_layout(config: EncoderConfig) -> Layout:
    """``packed`` where all of the model's mixers have such a graph, else ``padded``."""
    return "packed" if all(kind.traces_packed for kind in kinds_of(config)) else "padded"


def check_layout(config: EncoderConfig, layout: Layout) -> None:
    """Refuse a layout that a model has no graph for.

    Raises:
        ExportError: Naming its mixer.
    """
    if layout not in LAYOUTS:
        raise ExportError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if layout == "packed" and default_layout(config) != "packed":
        able = ", ".join(name for name, mixer in MIXERS.items() if mixer.traces_packed)
        raise ExportError(
            f"a {config.mixer_name} mixer has no packed graph, which only {able} has: export it "
            "with layout padded"
        )


class EmbeddingProgram(nn.Module):
    """``EmbeddingModel`` with the inputs and outputs of one layout."""

    def __init__(self, model: EmbeddingModel, layout: Layout) -> None:
        """Wrap ``model``; its weights are shared, not copied."""
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, inputs: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings, norms and token embeddings.

        Args:
            inputs: Token ids or features.
            places: ``cu_seqlens`` or ``attention_mask``.
        """
        if self.layout == "packed":
            mask, cu_seqlens, batch = None, places, inputs[None]
        else:
            mask, cu_seqlens, batch = places != 0, None, inputs
        output, tokens = self.model.embed_tokens(batch, mask, cu_seqlens)
        if self.layout == "packed":
            tokens = tokens[0]
        return output.embeddings, output.norms, tokens.float()


def example_inputs(config: EncoderConfig, layout: Layout) -> tuple[Tensor, Tensor]:
    """Example inputs for tracing."""
    shape = (48,) if layout == "packed" else (2, min(24, config.max_seq_len))
    count = math.prod(shape)
    if config.vocab_size is not None:
        inputs = torch.arange(count).remainder(config.vocab_size).view(shape)
    else:
        assert config.feature_size is not None  # checked by EncoderConfig
        inputs = torch.linspace(-1, 1, count * config.feature_size).view(
            *shape, config.feature_size
        )
    if layout == "packed":
        return inputs, torch.tensor([0, 20, 48], dtype=torch.int32)
    return inputs, torch.ones(shape, dtype=torch.int64)


def trace(model: EmbeddingModel, layout: Layout) -> ExportedProgram:
    """The program of ``model`` as a ``torch.export`` graph with dynamic sizes.

    Raises:
        ExportError: The layout is unknown, or cannot be traced for this model.
    """
    config = model.config
    check_layout(config, layout)
    if layout == "packed":
        dims: tuple[dict[int, Dim], ...] = (
            {0: Dim("tokens", min=LEAST)},
            {0: Dim("offsets", min=LEAST + 1)},
        )
    else:
        sizes = {
            0: Dim("batch", min=LEAST),
            1: Dim("length", min=LEAST, max=config.max_seq_len),
        }
        dims = (sizes, sizes)
    program = EmbeddingProgram(model.eval(), layout)
    device = next(model.parameters()).device
    inputs = tuple(part.to(device) for part in example_inputs(config, layout))
    with torch.no_grad():
        return torch.export.export(program, inputs, dynamic_shapes=dims, strict=False)
