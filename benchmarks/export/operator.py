"""``osa::OrthogonalAttention`` alone in ONNX Runtime: native kernel and function body."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from benchmarks.common.tables import table
from benchmarks.common.timing import median_cpu_s
from osa.export.onnx_model.build import IR_VERSION
from osa.export.onnx_model.completion_body import function_protos
from osa.export.onnx_model.operator_body import OPSET
from osa.export.onnx_model.operator_schema import DOMAIN, OPERATOR, VERSION
from osa.export.ort_ops import find_library

HEADS, WIDTH = 12, 32
BATCHES = ((32, 1), (32, 64), (128, 16), (512, 1), (512, 4), (4096, 1), (16384, 1))


def measure_operator(rounds: int, threads: int) -> str:
    """Table of CPU times of the packed operator, medians of ``rounds``, on ``threads`` threads."""
    library = find_library()
    if library is None:
        return "The custom-op library is not built on this machine."
    sessions = {"native": _session(str(library), threads), "body": _session(None, threads)}
    generator = np.random.default_rng(0)
    rows = []
    for length, count in BATCHES:
        total = length * count
        feeds: dict[str, Any] = {
            name: generator.standard_normal((1, total, HEADS, WIDTH)).astype(np.float32)
            for name in ("q", "k", "v")
        }
        feeds["alpha"] = np.full(HEADS, 0.3, dtype=np.float32)
        feeds["cu_seqlens"] = np.arange(count + 1, dtype=np.int32) * length
        medians = median_cpu_s(
            {name: partial(session.run, None, feeds) for name, session in sessions.items()}, rounds
        )
        native, body = medians["native"], medians["body"]
        rows.append([f"{count} x {length}", f"{native * 1e6 / total:.2f}", f"{body / native:.1f}"])
    return table(["batch x tokens", "native [us/token]", "body / native"], rows)


def _session(library: str | None, threads: int) -> ort.InferenceSession:
    states: list[str | int | None] = ["batch", "tokens", HEADS, WIDTH]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, states) for n in ("q", "k", "v")]
    inputs += [
        helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [HEADS]),
        helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["offsets"]),
    ]
    names = [value.name for value in inputs]
    node = helper.make_node(OPERATOR, names, ["y"], domain=DOMAIN, scale="length", center=0)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, states)
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph([node], "operator", inputs, [output]),
        functions=function_protos("packed"),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        ir_version=IR_VERSION,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(library)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
