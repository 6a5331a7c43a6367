"""``osa::OrthogonalAttention`` in standard operators: the function body stored in the model.

A runtime without the native kernel inlines it. It is the Gram form of ``osa.model.functional``:
token space up to N = 2d, feature space above, double precision where float32 would cancel, and as
many squarings as the angle needs. One body per layout; the packed one loops over the sequences, so
memory is linear for any mixture of lengths. Source: arXiv:2602.05996.

Shapes: B batch, H heads, N tokens, d head width, n matrix size (N or 2d), m columns.
"""
# Written in onnxscript: an ONNX graph in Python's syntax, compiled and never run.

from __future__ import annotations

from collections.abc import MutableSequence

import onnx
from onnx import TensorProto
from onnxscript import opset20 as op
from onnxscript import script
from onnxscript.values import Opset

from osa.export.graph import Layout
from osa.export.onnx_model.operator_schema import DOMAIN, VERSION

OPSET = 20
osa = Opset(DOMAIN, VERSION)

FLOAT, DOUBLE, INT64, BOOL = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.BOOL,
)


@script(osa, default_opset=op)
def Horner(matrix, block):
    """phi_1(X) T = sum X^k T / (k + 1)!, to degree 14: angles up to 2 rad."""
    z = block + op.MatMul(matrix, block) / 15.0
    z = block + op.MatMul(matrix, z) / 14.0
    z = block + op.MatMul(matrix, z) / 13.0
    z = block + op.MatMul(matrix, z) / 12.0
    z = block + op.MatMul(matrix, z) / 11.0
    z = block + op.MatMul(matrix, z) / 10.0
    z = block + op.MatMul(matrix, z) / 9.0
    z = block + op.MatMul(matrix, z) / 8.0
    z = block + op.MatMul(matrix, z) / 7.0
    z = block + op.MatMul(matrix, z) / 6.0
    z = block + op.MatMul(matrix, z) / 5.0
    z = block + op.MatMul(matrix, z) / 4.0
    z = block + op.MatMul(matrix, z) / 3.0
    action = block + op.MatMul(matrix, z) / 2.0
    return action


@script(osa, default_opset=op)
def Phi1(matrix, block, bound):
    """phi_1(X) T for X [B, H, n, n] with angles up to ``bound`` [B, H, 1, 1] rad.

    phi_1(2 X) T = (1 + E / 2) phi_1(X) T with E = exp(X) - 1, which doubles to 2 E + E^2.
    """
    one = op.CastLike(1.0, bound)
    finite = op.Where(bound < 1e30, bound, one)
    squarings = op.Ceil(op.Log(op.Max(finite * 0.5, one)) * 1.442695)
    count = op.Cast(op.ReduceMax(squarings, keepdims=0), to=INT64)
    if count > 0:
        scaled = matrix * op.Pow(one * 0.5, squarings)
        joint = osa.Horner(scaled, op.Concat(block, scaled, axis=3))
        columns = op.Shape(block, start=3, end=4)
        action = op.Slice(joint, [0], columns, [3])
        expm1 = op.Slice(joint, columns, op.Shape(joint, start=3, end=4), [3])
        for i in range(count):
            active = squarings > op.CastLike(i, squarings)
            action = op.Where(active, action + op.MatMul(expm1, action) * 0.5, action)
            expm1 = op.Where(active, expm1 * 2.0 + op.MatMul(expm1, expm1), expm1)
    else:
        action = osa.Horner(matrix, block)
    return action


@script(osa, default_opset=op)
def TokenSpace(query, key, value, factor):
    """Y = V + phi_1(S) S V with S [B, H, N, N]."""
    products = op.MatMul(query * factor, op.Transpose(key, perm=[0, 1, 3, 2]))
    scores = products - op.Transpose(products, perm=[0, 1, 3, 2])
    rows = op.ReduceMax(op.ReduceSum(op.Abs(scores), [3]), [2])
    frobenius = op.Sqrt(op.ReduceSumSquare(scores, [2, 3]) * 0.5)
    action = osa.Phi1(scores, op.MatMul(scores, value), op.Min(rows, frobenius))
    output = value + action
    return output


@script(osa, default_opset=op)
def FeatureSpace(query, key, value, factor):
    """Y = V + M W with W = c J phi_1(c G J) M^T V; also the bound of c G J [B, H, 1, 1] rad."""
    query_t = op.Transpose(query, perm=[0, 1, 3, 2])
    key_t = op.Transpose(key, perm=[0, 1, 3, 2])
    cross = op.MatMul(query_t, key)
    left = op.Concat(op.MatMul(query_t, query), op.Transpose(cross, perm=[0, 1, 3, 2]), axis=2)
    right = op.Concat(cross, op.MatMul(key_t, key), axis=2)
    matrix = factor * op.Concat(op.Neg(right), left, axis=3)
    moment = op.Concat(op.MatMul(query_t, value), op.MatMul(key_t, value), axis=2)
    magnitude = op.Abs(matrix)
    rows = op.ReduceMax(op.ReduceSum(magnitude, [3]), [2])
    columns = op.ReduceMax(op.ReduceSum(magnitude, [2]), [3])
    frobenius = op.Sqrt(op.ReduceSumSquare(matrix, [2, 3]))
    bound = op.Min(op.Sqrt(rows * columns), frobenius)
    action = osa.Phi1(matrix, moment, bound)
    upper, lower = op.Split(action, num_outputs=2, axis=2)
    output = value + factor * (op.MatMul(query, lower) - op.MatMul(key, upper))
    return output, bound


@script(osa, default_opset=op)
def Gram(query, key, value, factor):
    """exp(S) V for [B, H, N, d] that is masked already, c in ``factor`` [B, H, 1, 1]."""
    length = op.Squeeze(op.Shape(query, start=2, end=3))
    width = op.Squeeze(op.Shape(query, start=3, end=4))
    if length <= width * 2:
        output = osa.TokenSpace(query, key, value, factor)
    else:
        single, bound = osa.FeatureSpace(query, key, value, factor)
        if op.ReduceMax(bound, keepdims=0) > 8.0:
            precise, _ = osa.FeatureSpace(
                op.Cast(query, to=DOUBLE),
                op.Cast(key, to=DOUBLE),
                op.Cast(value, to=DOUBLE),
                op.Cast(factor, to=DOUBLE),
            )
            output = op.CastLike(precise, single)
        else:
            output = op.Identity(single)
    return output


@script(osa, default_opset=op)
def Attend(query, key, value, alpha, mask, scale: str, center: int):
    """exp(S) V for [B, N, H, d] with a mask [B, N]."""
    zero = op.Constant(value_float=0.0)
    real = op.Unsqueeze(mask, [1, 3])
    q = op.Where(real, op.Cast(op.Transpose(query, perm=[0, 2, 1, 3]), to=FLOAT), zero)
    k = op.Where(real, op.Cast(op.Transpose(key, perm=[0, 2, 1, 3]), to=FLOAT), zero)
    v = op.Where(real, op.Cast(op.Transpose(value, perm=[0, 2, 1, 3]), to=FLOAT), zero)
    count = op.Max(op.ReduceSum(op.Cast(real, to=FLOAT), [2]), 1.0)
    if op.Cast(op.Constant(value_int=center), to=BOOL):
        q_in = op.Where(real, q - op.ReduceSum(q, [2]) / count, zero)
        k_in = op.Where(real, k - op.ReduceSum(k, [2]) / count, zero)
    else:
        q_in = op.Identity(q)
        k_in = op.Identity(k)
    asked = op.Reshape(op.Constant(value_string=scale), [1])
    names = op.Concat(asked, op.Constant(value_strings=["length"]), axis=0)
    by_length = op.Equal(op.Gather(names, [0]), op.Gather(names, [1]))
    divisor = op.Where(by_length, count, op.Constant(value_float=1.0))
    root = op.Sqrt(op.Cast(op.Shape(query, start=3, end=4), to=FLOAT))
    angle = op.Reshape(op.Cast(alpha, to=FLOAT), [1, -1, 1, 1])
    mixed = osa.Gram(q_in, k_in, v, angle / (divisor * root))
    output = op.CastLike(op.Transpose(mixed, perm=[0, 2, 1, 3]), query)
    return output


@script(osa, default_opset=op)
def OrthogonalAttentionPadded(
    query, key, value, alpha, cu_seqlens, mask, scale: str = "paper", center: int = 0
):
    """The operator on a padded batch; ``cu_seqlens`` is absent."""
    output = osa.Attend(query, key, value, alpha, mask, scale=scale, center=center)
    return output


@script(osa, default_opset=op)
def OrthogonalAttentionPacked(
    query, key, value, alpha, cu_seqlens, scale: str = "paper", center: int = 0
):
    """The operator on a packed batch: one sequence after the other."""
    offsets = op.Cast(cu_seqlens, to=INT64)
    count = op.Squeeze(op.Size(offsets) - 1)
    parts = op.SequenceConstruct(op.Slice(value, [0], [0], [1]))
    for i in range(count):
        start = op.Gather(offsets, op.Reshape(i, [1]))
        stop = op.Gather(offsets, op.Reshape(i + 1, [1]))
        if op.Squeeze(stop) > op.Squeeze(start):
            part = op.Slice(query, start, stop, [1])
            mask = op.Expand(op.Cast(op.Constant(value_int=1), to=BOOL), op.Shape(part, end=2))
            mixed = osa.Attend(
                part,
                op.Slice(key, start, stop, [1]),
                op.Slice(value, start, stop, [1]),
                alpha,
                mask,
                scale=scale,
                center=center,
            )
        else:
            mixed = op.Slice(value, [0], [0], [1])
        parts = op.SequenceInsert(parts, mixed)
    output = op.ConcatFromSequence(parts, axis=1)
    return output


INNER = (Horner, Phi1, TokenSpace, FeatureSpace, Gram, Attend)


def inner_functions() -> list[onnx.FunctionProto]:
    """What bodies of operators call, last ``Attend``."""
    return [made.to_function_proto() for made in INNER]


def attention_function(layout: Layout) -> onnx.FunctionProto:
    """The body of ``OrthogonalAttention`` for a layout."""
    outer = OrthogonalAttentionPacked if layout == "packed" else OrthogonalAttentionPadded
    proto: onnx.FunctionProto = outer.to_function_proto()
    return proto


def finish(protos: list[onnx.FunctionProto], name: str) -> list[onnx.FunctionProto]:
    """Name the last function after its operator, and make all fit for every runtime."""
    protos[-1].name = name
    for proto in protos:
        _give_loops_a_condition(proto.node)
        del proto.opset_import[:]  # the compiler lists no domain that only branches use
        proto.opset_import.extend(
            [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, VERSION)]
        )
    return protos


def _give_loops_a_condition(nodes: MutableSequence[onnx.NodeProto]) -> None:
    """A loop without one runs for ever by the standard, and never in onnx's own evaluator."""
    for place, node in reversed(list(enumerate(nodes))):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _give_loops_a_condition(attribute.g.node)
        if node.op_type == "Loop" and not node.input[1]:
            node.input[1] = f"{node.output[0]}_condition"
            true = onnx.helper.make_tensor("true", TensorProto.BOOL, [], [True])
            nodes.insert(place, onnx.helper.make_node("Constant", [], [node.input[1]], value=true))
