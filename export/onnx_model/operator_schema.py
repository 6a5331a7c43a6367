"""The ONNX operators of domain ``osa``, version 1: their schemas and shape inference.

    OrthogonalAttention(query, key, value, alpha, cu_seqlens?, mask?) -> output
    CompletedAttention(query, key, value, alpha, identity, mixed, pool?, taps?, side?,
                       cu_seqlens?, mask?) -> output

Tokens are before heads, as projections give them: [B, N, H, d]. With ``cu_seqlens`` the batch is
packed (B = 1, N all tokens); with ``mask``, or neither, it is padded. Source: arXiv:2602.05996.
"""

from __future__ import annotations

import functools
from typing import Any

import onnx
from onnx.defs import OpSchema

DOMAIN = "osa"
VERSION = 1
OPERATOR, COMPLETED = "OrthogonalAttention", "CompletedAttention"
DOC = """Y = exp(S) V for every head, with S = c (Q K^T - K Q^T).

c is alpha / sqrt(d) (scale "paper") or alpha / (sqrt(d) N) (scale "length", N the real tokens of
the sequence). exp(S) is orthogonal; time and memory are linear in N. Padded rows of the result are
zero. Source: arXiv:2602.05996.
"""
COMPLETED_DOC = """OrthogonalAttention Y, completed by a mean, neighbours and weights by token.

Of token i and every head: (a - s) V_i + s Y_i + m sum over j of softmax_j(logits) V_j + sum over
0 < |o| <= R of c_o V_(i - o), the last two over the sequence's real tokens. With gates of the token
a, s, m become a + g_a, s (1 + g_s), m (1 + g_m).
"""
_Parameter, _Attribute = OpSchema.FormalParameter, OpSchema.Attribute
_OPTIONAL = OpSchema.FormalParameterOption.Optional


def _optional(name: str, kind: str, what: str) -> OpSchema.FormalParameter:
    return _Parameter(name, kind, what, param_option=_OPTIONAL)


_STATES = [
    _Parameter("query", "T", "Queries [B, N, H, d]."),
    _Parameter("key", "T", "Keys [B, N, H, d]."),
    _Parameter("value", "T", "Values [B, N, H, d]."),
    _Parameter("alpha", "tensor(float)", "Angle of each head [H]."),
]
_TERMS = [
    _Parameter("identity", "tensor(float)", "Weight a of the values [H]."),
    _Parameter("mixed", "tensor(float)", "Weight s of what exp(S) changes [H]."),
    _optional("pool", "tensor(float)", "Weight m of the pooled values [H]."),
    _optional("taps", "tensor(float)", "Weights c of the offsets -R to -1 and 1 to R [H, 2 R]."),
    _optional(
        "side",
        "tensor(float)",
        "Of each token a number a head, side by side: logits where there is a pool; where gated "
        "g_a and g_s, and g_m where there is a pool [B, N, K]. Absent where that is none.",
    ),
]
_PLACES = [
    _optional(
        "cu_seqlens",
        "tensor(int32)",
        "Offsets of the packed sequences [S + 1], from 0 to N; then B is 1.",
    ),
    _optional("mask", "tensor(bool)", "True at real tokens [B, N]."),
]


@functools.cache
def schemas() -> dict[str, OpSchema]:
    """The schemas by name, registered with ``onnx`` at the first call."""
    attributes = [
        _Attribute("scale", onnx.helper.make_attribute("scale", "paper"), "paper or length."),
        _flag("center", "1: subtract each sequence's mean query and key first."),
    ]
    return {
        OPERATOR: _register(OPERATOR, DOC, [*_STATES, *_PLACES], attributes),
        COMPLETED: _register(
            COMPLETED,
            COMPLETED_DOC,
            [*_STATES, *_TERMS, *_PLACES],
            [*attributes, _flag("gated", "1: tokens have gates.")],
        ),
    }


def _flag(name: str, what: str) -> OpSchema.Attribute:
    return _Attribute(name, onnx.helper.make_attribute(name, 0), what)


def _register(
    name: str,
    doc: str,
    inputs: list[OpSchema.FormalParameter],
    attributes: list[OpSchema.Attribute],
) -> OpSchema:
    """Register one operator of the states.

    Args:
        name: Its name.
        doc: What it computes.
        inputs: Its inputs; query first.
        attributes: Its attributes.
    """
    made = OpSchema(
        name,
        DOMAIN,
        VERSION,
        doc,
        inputs=inputs,
        outputs=[_Parameter("output", "T", "Mixed values [B, N, H, d].")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "Type of the states.")
        ],
        attributes=attributes,
    )
    made.set_type_and_shape_inference_function(_infer)
    onnx.defs.register_schema(made)
    return made


def _infer(context: Any) -> None:
    """The output has the type and shape of the query."""
    context.set_output_type(0, context.get_input_type(0))
