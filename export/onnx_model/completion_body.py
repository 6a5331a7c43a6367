"""``osa::CompletedAttention`` in standard operators: the function body stored in the model.

The body of ``osa::OrthogonalAttention`` around each sequence, and the terms of
``osa.model.functional.completion``. A body cannot ask which optional inputs there are, so that a
model carries the one of its own form. Neighbours are a loop over offsets.

Shapes: B batch, H heads, N tokens, d head width, R reach, K numbers of a token.
"""
# Written in onnxscript: an ONNX graph in Python's syntax, compiled and never run.

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper
from onnxscript import opset20 as op
from onnxscript import script

from osa.export.graph import Layout
from osa.export.onnx_model.operator_body import (
    BOOL,
    FLOAT,
    INT64,
    attention_function,
    finish,
    inner_functions,
    osa,
)
from osa.export.onnx_model.operator_schema import COMPLETED, DOMAIN, OPERATOR
from osa.model.config import EncoderConfig

INPUTS = ["value", "mixing", "identity", "mixed", "pool", "taps", "side", "mask"]
"""Of the function ``Complete``; in the packed layout also where the sequence begins and ends."""


@dataclass(frozen=True)
class Form:
    """Which terms there are.

    Attributes:
        pool: Pooled values.
        taps: Neighbours.
        gated: Gates of tokens.
    """

    pool: bool
    taps: bool
    gated: bool

    @classmethod
    def of(cls, config: EncoderConfig) -> Form | None:
        """That of an encoder's attention; None where it is not completed."""
        if not config.is_completed:
            return None
        return cls(config.osa_pool, config.osa_taps > 0, config.osa_gate)

    @property
    def absent(self) -> set[str]:
        """Inputs of the operator that are not given."""
        given = {"pool": self.pool, "taps": self.taps, "side": self.pool or self.gated}
        return {name for name, there in given.items() if not there}


@script(osa, default_opset=op)
def Numbers(side, heads, place: int):
    """The numbers [B, N, H] of a place among those of each token [B, N, K]."""
    first = heads * op.Constant(value_int=place)
    numbers = op.Slice(side, first, first + heads, [2])
    return numbers


@script(osa, default_opset=op)
def Blend(value, mixing, own, change):
    """(a - s) V + s Y for [B, N, H, d], with a and s [H] or [B, N, H]."""
    blended = op.Unsqueeze(own - change, [-1]) * value + op.Unsqueeze(change, [-1]) * mixing
    return blended


@script(osa, default_opset=op)
def PooledValues(value, logits, mask):
    """Each row's mean value [B, 1, H, d], by the softmax of logits [B, N, H] of real tokens."""
    masked = op.Where(op.Unsqueeze(mask, [2]), logits, op.Constant(value_float=-3.0e38))
    weights = op.Softmax(masked, axis=1)
    pooled = op.ReduceSum(value * op.Unsqueeze(weights, [3]), [1])
    return pooled


@script(osa, default_opset=op)
def Shifted(value, taps):
    """Sum of c_o V_(i - o) over offsets o, 0 < |o| <= R, with zeros beyond the ends."""
    columns = op.Shape(taps, start=1, end=2)
    reach = columns / 2
    none = op.Constant(value_ints=[0])
    pads = op.Concat(none, reach, none, none, none, reach, none, none, axis=0)
    wide = op.Pad(value, pads)
    length = op.Shape(value, start=1, end=2)
    total = op.Expand(op.Constant(value_float=0.0), op.Shape(value))
    for i in range(op.Squeeze(columns)):
        place = op.Reshape(i, [1])
        after = op.Cast(place >= reach, to=INT64)
        first = columns - place - after
        weights = op.Unsqueeze(op.Squeeze(op.Gather(taps, place, axis=1), [1]), [1])
        total = total + weights * op.Slice(wide, first, first + length, [1])
    return total


@script(osa, default_opset=op)
def Neighbours(value, taps, mask):
    """``Shifted`` over the real tokens of each row alone, wherever padding lies."""
    real = op.Cast(mask, to=INT64)
    one = op.Constant(value_int=1)
    axis = op.Constant(value_int=1)
    count = op.ReduceSum(real, [1])
    back = op.Where(mask, op.CumSum(real, axis) - one, count + op.CumSum(one - real, axis) - one)
    cells = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(mask, start=1, end=2)), one)
    order = op.ScatterElements(back, back, op.Expand(cells, op.Shape(mask)), axis=1)
    moved = op.GatherND(value, op.Unsqueeze(order, [2]), batch_dims=1)
    near = op.GatherND(osa.Shifted(moved, taps), op.Unsqueeze(back, [2]), batch_dims=1)
    return near


@script(osa, default_opset=op)
def CompletedAttentionPadded(
    query,
    key,
    value,
    alpha,
    identity,
    mixed,
    pool,
    taps,
    side,
    cu_seqlens,
    mask,
    scale: str = "paper",
    center: int = 0,
    gated: int = 0,
):
    """The operator on a padded batch; ``cu_seqlens`` is absent."""
    mixing = osa.Attend(query, key, value, alpha, mask, scale=scale, center=center)
    output = osa.Complete(value, mixing, identity, mixed, pool, taps, side, mask)
    return output


@script(osa, default_opset=op)
def CompletedAttentionPacked(
    query,
    key,
    value,
    alpha,
    identity,
    mixed,
    pool,
    taps,
    side,
    cu_seqlens,
    scale: str = "paper",
    center: int = 0,
    gated: int = 0,
):
    """The operator on a packed batch: one sequence after the other."""
    offsets = op.Cast(cu_seqlens, to=INT64)
    count = op.Squeeze(op.Size(offsets) - 1)
    parts = op.SequenceConstruct(op.Slice(value, [0], [0], [1]))
    for i in range(count):
        start = op.Gather(offsets, op.Reshape(i, [1]))
        stop = op.Gather(offsets, op.Reshape(i + 1, [1]))
        if op.Squeeze(stop) > op.Squeeze(start):
            part = op.Slice(value, start, stop, [1])
            mask = op.Expand(op.Cast(op.Constant(value_int=1), to=BOOL), op.Shape(part, end=2))
            mixing = osa.Attend(
                op.Slice(query, start, stop, [1]),
                op.Slice(key, start, stop, [1]),
                part,
                alpha,
                mask,
                scale=scale,
                center=center,
            )
            done = osa.Complete(part, mixing, identity, mixed, pool, taps, side, mask, start, stop)
        else:
            done = op.Slice(value, [0], [0], [1])
        parts = op.SequenceInsert(parts, done)
    output = op.ConcatFromSequence(parts, axis=1)
    return output


def function_protos(layout: Layout, form: Form | None = None) -> list[onnx.FunctionProto]:
    """The body of an operator for a layout, after the functions that it calls.

    That of ``CompletedAttention`` in a form, or of ``OrthogonalAttention``.
    """
    if form is None:
        return finish([*inner_functions(), attention_function(layout)], OPERATOR)
    packed = layout == "packed"
    outer = (CompletedAttentionPacked if packed else CompletedAttentionPadded).to_function_proto()
    _leave_out(outer.node, form.absent)
    parts = (Numbers, Blend, PooledValues, Shifted, Neighbours)
    own = [made.to_function_proto() for made in parts]
    return finish([*inner_functions(), *own, _complete(packed, form), outer], COMPLETED)


def _leave_out(nodes: MutableSequence[onnx.NodeProto], absent: set[str]) -> None:
    """Name no input that is absent."""
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in absent:
                node.input[place] = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _leave_out(attribute.g.node, absent)


class _Graph:
    """Nodes one after the other; every call adds one and returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def __call__(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        result = f"{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [result], domain=domain, **attributes)
        self.nodes.append(node)
        return result

    def own(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A function of this domain."""
        return self(kind, *inputs, domain=DOMAIN, **attributes)

    def ints(self, *values: int) -> str:
        """A constant int64 vector."""
        tensor = helper.make_tensor("ints", TensorProto.INT64, [len(values)], values)
        return self("Constant", value=tensor)

    def number(self, value: float) -> str:
        """A constant float."""
        return self("Constant", value=helper.make_tensor("number", FLOAT, [], [value]))


def _complete(packed: bool, form: Form) -> onnx.FunctionProto:
    """The function ``Complete``: from ``mixing`` [B, N, H, d] to the operator's result.

    In a packed batch ``side`` is that of all tokens, from ``start`` to ``stop`` that of these.
    """
    add = _Graph()
    real = add("Unsqueeze", "mask", add.ints(2, 3))
    value = add("Where", real, add("Cast", "value", to=FLOAT), add.number(0.0))
    mixing = add("Cast", "mixing", to=FLOAT)
    heads = add("Shape", "identity")
    side = "side"
    if packed and "side" not in form.absent:
        side = add("Slice", "side", "start", "stop", add.ints(1))
    own, change, share = "identity", "mixed", "pool"
    if form.gated:
        first, one = int(form.pool), add.number(1.0)
        gates = [
            add.own("Numbers", side, heads, place=first + n) for n in range(3 if form.pool else 2)
        ]
        own = add("Add", own, gates[0])
        change = add("Mul", change, add("Add", gates[1], one))
        if form.pool:
            share = add("Mul", share, add("Add", gates[2], one))
    total = add.own("Blend", value, mixing, own, change)
    if form.pool:
        logits = add.own("Numbers", side, heads, place=0)
        pooled = add.own("PooledValues", value, logits, "mask")
        weights = add("Unsqueeze", share, add.ints(-1))
        # padding has a share too, until it is cleared below
        total = add("Add", total, add("Mul", weights, pooled))
    if form.taps:
        near = ("Shifted", value, "taps") if packed else ("Neighbours", value, "taps", "mask")
        total = add("Add", total, add.own(*near))
    cleared = add("Where", real, total, add.number(0.0))
    add.nodes.append(helper.make_node("CastLike", [cleared, "value"], ["output"]))
    inputs = [*INPUTS, "start", "stop"] if packed else INPUTS
    return helper.make_function(DOMAIN, "Complete", inputs, ["output"], add.nodes, [])
