"""One-node ONNX models of the operator, and sessions that run them with the library or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from osa.export.graph import Layout
from osa.export.onnx_model.build import IR_VERSION
from osa.export.onnx_model.completion_body import Form, function_protos
from osa.export.onnx_model.operator_body import OPSET
from osa.export.onnx_model.operator_schema import COMPLETED, DOMAIN, OPERATOR, VERSION, schemas


def operator_model(
    layout: Layout,
    heads: int,
    width: int,
    dtype: int = TensorProto.FLOAT,
    body: bool = True,
    form: Form | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model that is one ``osa::OrthogonalAttention`` node, or with a form the completed one.

    Both attributes are always given, as exported models do: onnx's own evaluator knows no defaults
    of functions. ``scale=None`` leaves both out.
    """
    schemas()
    given: dict[str, Any] = {"scale": "paper", "center": 0} | attributes
    if given["scale"] is None:
        given = {}
    shape: list[str | int | None] = ["batch", "tokens", heads, width]
    inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("q", "k", "v")]
    inputs.append(helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [heads]))
    terms: list[str] = []
    if form is not None:
        sizes: dict[str, list[str | int | None]] = {
            "identity": [heads], "mixed": [heads], "pool": [heads], "taps": [heads, "reach"],
            "side": ["batch", "tokens", "numbers"],
        }  # fmt: skip
        terms = ["" if name in form.absent else name for name in sizes]
        inputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes[name])
            for name in terms
            if name
        ]
        given |= {"gated": int(form.gated)}
    if layout == "packed":
        places = ["cu_seqlens"]
        inputs.append(helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["offsets"]))
    else:
        places = ["", "mask"]
        inputs.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", "tokens"]))
    name = OPERATOR if form is None else COMPLETED
    node = helper.make_node(
        name, ["q", "k", "v", "alpha", *terms, *places], ["y"], domain=DOMAIN, **given
    )
    output = helper.make_tensor_value_info("y", dtype, shape)
    return helper.make_model(
        helper.make_graph([node], "operator", inputs, [output]),
        functions=function_protos(layout, form) if body else [],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        ir_version=IR_VERSION,
    )


def session(
    model: onnx.ModelProto | Path, library: Path | None, threads: int = 2
) -> ort.InferenceSession:
    """A CPU session, with the custom-op library or without."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def states(
    generator: np.random.Generator, batch: int, length: int, heads: int, width: int
) -> dict[str, np.ndarray]:
    """Queries, keys and values [B, N, H, d]."""
    return {
        name: generator.standard_normal((batch, length, heads, width)).astype(np.float32)
        for name in ("q", "k", "v")
    }
