"""Smaller weights for ONNX models: float16 or bfloat16 storage, and dynamic int8 products.

``store_weights`` keeps the arithmetic in float32: weights are cast where they are used.
``quantize_int8`` changes the arithmetic: int8 weights by output channel, and activations quantised
at run time with one scale per product.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from osa.export.errors import ExportError
from osa.export.onnx_model.runtime import import_onnxruntime
from osa.model.common.scratch import scratch_directory

STORED = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
LEAST_WEIGHT = 4096
"""Smaller tensors (norms, angles) stay in float32."""


def store_weights(proto: onnx.ModelProto, dtype: str) -> None:
    """Store the large weights of ``proto`` in ``dtype``, and cast each to float32 where it is used.

    Of an embedding table the rows are cast, not the table.
    """
    graph = proto.graph
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST_WEIGHT:
            continue
        name = tensor.name
        tensor.CopyFrom(_rounded(values, dtype, name))
        users = [node for node in graph.node if name in node.input]
        if all(node.op_type == "Gather" and node.input[0] == name for node in users):
            for node in users:
                wide, node.output[0] = node.output[0], f"{node.output[0]}_stored"
                place = list(graph.node).index(node) + 1
                graph.node.insert(place, _cast(node.output[0], wide))
            continue
        casts.append(_cast(name, f"{name}_wide"))
        for node in users:
            for place, source in enumerate(node.input):
                if source == name:
                    node.input[place] = f"{name}_wide"
    for cast in reversed(casts):
        graph.node.insert(0, cast)


def _rounded(values: np.ndarray, dtype: str, name: str) -> onnx.TensorProto:
    import ml_dtypes

    target = np.dtype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    stored = values.astype(target)
    if not np.isfinite(stored.astype(np.float32)).all():
        raise ExportError(f"{name} has a value that {dtype} cannot hold: use another dtype")
    return onnx.helper.make_tensor(name, STORED[dtype], values.shape, stored.tobytes(), raw=True)


def _cast(source: str, target: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], f"{target}_cast", to=TensorProto.FLOAT)


def quantize_int8(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` with every weight matrix in int8, by onnxruntime's dynamic quantisation.

    Raises:
        ExportError: onnxruntime is not installed.
    """
    import_onnxruntime()
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ExportError(
            "int8 needs onnxruntime: pip install onnxruntime-gpu, or onnxruntime where there is "
            "no NVIDIA GPU"
        ) from error
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.functions[:]
    bare.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # or it warns
    with scratch_directory("an int8 export") as scratch:
        source, target = scratch / "float.onnx", scratch / "int8.onnx"
        onnx.save(bare, str(source))
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        quantized: onnx.ModelProto = onnx.load(str(target))
    quantized.functions.extend(proto.functions)
    quantized.ir_version = proto.ir_version
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(proto.metadata_props)
    return quantized
