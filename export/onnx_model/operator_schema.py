"""The ONNX operator ``osa::OrthogonalAttention``, version 1: its schema and shape inference.

    OrthogonalAttention(query, key, value, alpha, cu_seqlens?, mask?) -> output

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
OPERATOR = "OrthogonalAttention"
DOC = """Y = exp(S) V for every head, with S = c (Q K^T - K Q^T).

c is alpha / sqrt(d) (scale "paper") or alpha / (sqrt(d) N) (scale "length", N the real tokens of
the sequence). exp(S) is orthogonal; time and memory are linear in N. Padded rows of the result are
zero. Source: arXiv:2602.05996.
"""


@functools.cache
def schema() -> OpSchema:
    """The schema, registered with ``onnx`` at the first call."""
    parameter, attribute = OpSchema.FormalParameter, OpSchema.Attribute
    optional = OpSchema.FormalParameterOption.Optional
    made = OpSchema(
        OPERATOR,
        DOMAIN,
        VERSION,
        DOC,
        inputs=[
            parameter("query", "T", "Queries [B, N, H, d]."),
            parameter("key", "T", "Keys [B, N, H, d]."),
            parameter("value", "T", "Values [B, N, H, d]."),
            parameter("alpha", "tensor(float)", "Angle of each head [H]."),
            parameter(
                "cu_seqlens",
                "tensor(int32)",
                "Offsets of the packed sequences [S + 1], from 0 to N; then B is 1.",
                param_option=optional,
            ),
            parameter(
                "mask",
                "tensor(bool)",
                "True at real tokens [B, N].",
                param_option=optional,
            ),
        ],
        outputs=[parameter("output", "T", "Mixed values [B, N, H, d].")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "Type of the states.")
        ],
        attributes=[
            attribute("scale", onnx.helper.make_attribute("scale", "paper"), "paper or length."),
            attribute(
                "center",
                onnx.helper.make_attribute("center", 0),
                "1: subtract each sequence's mean query and key first.",
            ),
        ],
    )
    made.set_type_and_shape_inference_function(_infer)
    onnx.defs.register_schema(made)
    return made


def _infer(context: Any) -> None:
    """The output has the type and shape of the query."""
    context.set_output_type(0, context.get_input_type(0))
