"""A whole model on a CUDA device, in few launches that a CUDA graph can hold.

Between the copy of a batch and the copy of its vectors the host reads nothing from the device, and
everything that depends on lengths comes from the host (``device_layout``). Norms and sums are
float32; products, attention and what they read are of the pass's dtype. The model itself stays as
it is, for the retry in float32. Shapes: T tokens, S sequences, D hidden, E embedding width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from osa.model.embedding_model import EmbeddingModel
from osa.model.functional.completion import Terms
from osa.model.inference.device_layout import Layout
from osa.model.kernels import gpu, is_allowed
from osa.model.layers.block import Block
from osa.model.layers.heads import SparseHead
from osa.model.layers.mixers.base import HEAD_EPS
from osa.model.layers.mixers.osa import OsaMixer
from osa.model.layers.positions import rotary_table
from osa.model.options.rules import rules_of

DOUBLING_MARGIN = 0.95
"""Of the angle beyond which the forward pass doubles: what rounding may add to a bound."""


class PassOutput(NamedTuple):
    """Results of a bucket; rows of no sequence are meaningless.

    Attributes:
        embeddings: Vectors, or what the head computes, float32 [S, E].
        norms: Their lengths before normalising [S].
        hidden: States of every token, float32 [T, D].
    """

    embeddings: Tensor
    norms: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class _Linear:
    """Weights of a layer in the dtype of the pass."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, layer: nn.Linear, dtype: torch.dtype) -> _Linear:
        bias: Tensor | None = layer.bias
        return cls(
            layer.weight.detach().to(dtype).contiguous(),
            None if bias is None else bias.detach().to(dtype),
        )


@dataclass(frozen=True)
class _Layer:
    qkv: _Linear
    out: _Linear
    up: _Linear
    down: _Linear
    block: Block
    mixer: OsaMixer
    alpha: Tensor
    may_double: bool
    side: _Linear | None
    terms: Terms | None


def unfit(model: EmbeddingModel, dtype: torch.dtype) -> str | None:
    """Why a model has no such pass, or None."""
    blocks = list(model.encoder.blocks)
    if not all(isinstance(block, Block) and isinstance(block.mixer, OsaMixer) for block in blocks):
        return "has another mixer than osa"
    rules = rules_of(model.config)
    if rules.get("residual") == "none":
        del rules["residual"]
    if rules:
        return f"has options of its own ({', '.join(rules)})"
    if model.config.local_conv:
        return "has convolutions before its mixers"
    if not is_allowed("triton"):
        return "runs another kernel than triton"
    if isinstance(model.head, SparseHead):
        return "has a head over all tokens"
    widest = max(model.config.hidden_size, model.config.vector_size)
    if widest > 8192:
        return f"has rows of {widest} numbers"
    reason = gpu.unsupported(torch.empty(0, 0, 0, model.config.head_dim, dtype=dtype))
    return None if reason is None else f"has operands for which the triton kernel {reason}"


class DevicePass:
    """One model's forward pass on packed batches."""

    def __init__(
        self, model: EmbeddingModel, dtype: torch.dtype, fixed_products: bool = True
    ) -> None:
        """Copy the weights of the blocks in ``dtype``.

        Args:
            model: Loaded in float32, on the device where it runs; ``unfit`` has no objection.
            dtype: Of products and attention.
            fixed_products: Take products whose bits do not depend on the batch; float32 has none,
                nor have devices without ``TENSOR_CORES``.
        """
        from osa.model.kernels.gpu.encoder.launches import Norm

        self._model, self._dtype = model, dtype
        has_fixed = dtype != torch.float32 and gpu.capability() >= gpu.TENSOR_CORES
        self._fixed = fixed_products and has_fixed
        config = self._config = model.config
        encoder = model.encoder
        blocks = cast("list[Block]", list(encoder.blocks))
        self._layers = [self._copy(block) for block in blocks]
        self._post = config.norm_place == "post"
        self._inner = [Norm.of(block.feed_forward_norm) for block in blocks]
        mixer_norms = self._mixer_norms = [Norm.of(block.mixer_norm) for block in blocks]
        last = Norm.of(encoder.norm)
        # before a mixer: of the block itself, or of nothing where norms come after
        self._before = Norm.of(nn.Identity()) if self._post else mixer_norms[0]
        self._after = [*mixer_norms[1:], last]
        self._table: tuple[Tensor, Tensor] | None = None
        if config.positions == "rotary":
            places = torch.arange(config.max_seq_len, device=next(model.parameters()).device)
            cosine, sine = rotary_table(
                places.unsqueeze(0), config.head_dim, config.rope_theta, config.rope_divisor
            )
            self._table = cosine.squeeze(0).contiguous(), sine.squeeze(0).contiguous()

    def _copy(self, block: Block) -> _Layer:
        mixer, inner = cast("OsaMixer", block.mixer), block.feed_forward
        assert inner is not None  # unfit refuses others
        layers = (mixer.qkv, mixer.out, inner.up, inner.down)
        qkv, out, up, down = (_Linear.of(layer, self._dtype) for layer in layers)
        alpha = mixer.alpha.detach().float().contiguous()
        may_double = self._may_double(mixer, alpha)
        side = (
            None if mixer.side is None else _Linear.of(cast("nn.Linear", mixer.side), self._dtype)
        )
        terms = None if mixer.completion is None else mixer.completion.weights()
        return _Layer(qkv, out, up, down, block, mixer, alpha, may_double, side, terms)

    def _may_double(self, mixer: OsaMixer, alpha: Tensor) -> bool:
        """Whether an angle can be beyond ``DOUBLING_ANGLE``: normed heads bound it.

        ||c G J|| <= c ||M||_F^2 = 2 |alpha| sqrt(d) where c = alpha / (sqrt(d) N) and the rows of
        Q and K have at most the length sqrt(d).
        """
        from osa.model.kernels.gpu.series import DOUBLING_ANGLE

        if not (mixer.qk_norm and mixer.scale == "length"):
            return True
        largest = float(alpha.abs().max()) * 2 * math.sqrt(mixer.head_dim)
        return not largest <= DOUBLING_MARGIN * DOUBLING_ANGLE.value

    @property
    def dtype(self) -> torch.dtype:
        """Of products and attention."""
        return self._dtype

    @property
    def products(self) -> str:
        """What computes products with weights."""
        return "triton, fixed tiles" if self._fixed else "torch"

    def run(self, batch: Layout) -> PassOutput:
        """Compute a batch that lies on the device, without waiting for it."""
        from osa.model.kernels.gpu.encoder import launches

        stream = self._embed(batch)
        _, ready = launches.add_and_norm(stream, None, self._before, self._dtype, keeps=False)
        for place, layer in enumerate(self._layers):
            last = place == len(self._layers) - 1
            added = self._mix(layer, ready, batch)
            base = stream if layer.block.residual == "add" else None
            norm = self._mixer_norms[place] if self._post else self._inner[place]
            summed, ready = launches.add_and_norm(base, added, norm, self._dtype, post=self._post)
            assert summed is not None  # it was asked for
            added = self._transform(layer, ready)
            base = summed if layer.block.residual == "add" else None
            norm = self._inner[place] if self._post else self._after[place]
            kind = torch.float32 if last else self._dtype
            kept, ready = launches.add_and_norm(
                base, added, norm, kind, keeps=not last, post=self._post
            )
            stream = ready if kept is None else kept
        return self._finish(ready, batch)

    def _embed(self, batch: Layout) -> Tensor:
        """The first states of every token, float32 [T, D]."""
        encoder = self._model.encoder
        if batch.features is not None:
            hidden: Tensor = encoder.embed(batch.features)
        else:
            hidden = encoder.embed(batch.ids)
        if encoder.token_types is not None and self._config.vocab_size is not None:
            hidden = hidden + encoder.token_types(batch.types)
        if encoder.positions is not None:
            places, rows = batch.places, self._config.position_rows
            places = places if rows is None else places.clamp(max=rows - 1)
            hidden = hidden + encoder.positions(places)
        normalised: Tensor = encoder.embedding_norm(hidden)
        return normalised

    def _multiply(self, layer: _Linear, inputs: Tensor, activation: str | None = None) -> Tensor:
        from osa.model.kernels.gpu.encoder import launches

        if self._fixed:
            return launches.multiply(inputs, layer.weight, layer.bias, activation)
        product = F.linear(inputs, layer.weight, layer.bias)
        return product if activation is None else launches.activate(product, activation, False)

    def _mix(self, layer: _Layer, ready: Tensor, batch: Layout) -> Tensor:
        """What a mixer adds to every token, in the dtype of the pass [T, D]."""
        from osa.model.kernels.gpu.completion.launches import complete
        from osa.model.kernels.gpu.encoder import launches
        from osa.model.kernels.gpu.forward import run_forward
        from osa.model.kernels.gpu.launch import Known
        from osa.model.kernels.gpu.short import SHORT_TOKENS

        mixer, shape = layer.mixer, batch.shape
        joint = self._multiply(layer.qkv, ready)
        joint = joint.view(shape.tokens, 3, mixer.num_heads, mixer.head_dim)
        launches.turn_heads(joint, batch.places, self._table, HEAD_EPS if mixer.qk_norm else None)
        query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in joint.unbind(1))
        known = Known(
            1 if shape.short else SHORT_TOKENS + 1,
            shape.tokens if shape.long else SHORT_TOKENS,
            layer.may_double,
        )
        options = (layer.alpha, None, batch.offsets, mixer.scale, mixer.center, known)
        mixed = run_forward(query, key, value, *options)
        if layer.terms is not None:
            sides = None if layer.side is None else self._say(layer.side, ready)
            complete(mixed, value, sides, layer.terms, None, batch.offsets, output=mixed)
        return self._multiply(layer.out, mixed.squeeze(0).transpose(0, 1).flatten(1))

    def _say(self, layer: _Linear, ready: Tensor) -> Tensor:
        """What tokens say of their own mixing, float32 [1, T, K H]: operands are the pass's."""
        from osa.model.kernels.gpu.encoder import launches

        if not self._fixed:
            return F.linear(ready, layer.weight, layer.bias).float().unsqueeze(0)
        sums = launches.multiply(ready, layer.weight, layer.bias, dtype=torch.float32)
        return sums.unsqueeze(0)

    def _transform(self, layer: _Layer, ready: Tensor) -> Tensor:
        """What the feed-forward layer adds to every token, in the dtype of the pass [T, D]."""
        from osa.model.kernels.gpu.encoder import launches

        inner = layer.block.feed_forward
        assert inner is not None  # unfit refuses others
        if inner.gated:
            both = self._multiply(layer.up, ready)
            return self._multiply(layer.down, launches.activate(both, inner.activation_name, True))
        return self._multiply(layer.down, self._multiply(layer.up, ready, inner.activation_name))

    def _finish(self, hidden: Tensor, batch: Layout) -> PassOutput:
        from osa.model.kernels.gpu.encoder import launches

        pooled = launches.pool_packed(hidden, self._config.pooling, batch.offsets)
        vectors = self._model.project(pooled)
        if self._model.head is not None:
            values: Tensor = self._model.head(vectors)
            return PassOutput(values, values.new_ones(len(values)), hidden)
        return PassOutput(*launches.to_unit(vectors.float()), hidden)
