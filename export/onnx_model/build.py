"""``EmbeddingModel`` to an ONNX model: a custom node per layer, with a body in standard operators.

Any ONNX runtime can run the body; where the native kernel of ``osa.export.ort_ops`` is registered,
it runs instead and is faster.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset20 as op
from onnxscript.values import Opset

from osa.export.errors import ExportError
from osa.export.graph import OUTPUTS, Layout, input_specs, trace
from osa.export.onnx_model.completion_body import Form, function_protos
from osa.export.onnx_model.operator_body import OPSET
from osa.export.onnx_model.operator_schema import COMPLETED, DOMAIN, OPERATOR, VERSION, schemas
from osa.model import EmbeddingModel
from osa.model.layers.mixers import kinds_of

IR_VERSION = 10
"""That of opset 20's release, which older versions and other runtimes read too."""
EXTERNAL_BYTES = 1 << 30
"""Models above this size store weights in a second file: protobuf's limit is 2 GiB."""
WEIGHTS = "model.onnx.data"


def build_onnx(model: EmbeddingModel, layout: Layout) -> onnx.ModelProto:
    """The ONNX model of ``model``, checked, in float32.

    Raises:
        ExportError: The layout is not supported, or the graph does not pass the checks.
    """
    program = trace(model, layout)
    inputs = [spec.name for spec in input_specs(model.config, layout)]
    with _quiet(), torch.no_grad():  # with gradients attention would take another path than traced
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=list(OUTPUTS),
            custom_translation_table=_translations(),
            verbose=False,
        )
    assert exported is not None  # as no file is given
    proto: onnx.ModelProto = exported.model_proto
    proto.ir_version = IR_VERSION
    _name_sizes(proto, layout)
    _drop_traces(proto)
    if any(kind.calls_attention for kind in kinds_of(model.config)):
        proto.functions.extend(function_protos(layout, Form.of(model.config)))
        _import(proto, DOMAIN, VERSION)
    _describe(proto, model)
    check(proto)
    return proto


def check(proto: onnx.ModelProto) -> None:
    """Run onnx's full check and strict shape inference.

    Raises:
        ExportError: A check failed.
    """
    schemas()
    try:
        onnx.checker.check_model(proto, full_check=True)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX graph does not pass onnx's own checks: {error}") from error


def save_onnx(proto: onnx.ModelProto, path: Path) -> None:
    """Write the model; large weights go to a second file beside it."""
    if proto.ByteSize() <= EXTERNAL_BYTES:
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return
    onnx.save_model(
        proto, str(path), save_as_external_data=True, location=WEIGHTS, size_threshold=1024
    )


def _translations() -> dict[Any, Any]:
    schemas()
    domain = Opset(DOMAIN, VERSION)

    def by_tokens(*states: Any) -> list[Any]:
        """Tokens before heads; the transposes cancel with the graph's own."""
        return [op.Transpose(part, perm=[0, 2, 1, 3]) for part in states]

    def attention(  # type: ignore[no-untyped-def]
        query, key, value, alpha, mask=None, cu_seqlens=None, scale="paper", center=False
    ):
        """One node."""
        states = by_tokens(query, key, value)
        places = (cu_seqlens,) if mask is None else (None, mask)
        mixed = domain.OrthogonalAttention(*states, alpha, *places, scale=scale, center=int(center))
        return by_tokens(mixed)[0]

    def completed(  # type: ignore[no-untyped-def]
        query, key, value, alpha, identity, mixed, pool, taps, side,
        mask=None, cu_seqlens=None, scale="paper", center=False, gated=False,
    ):  # fmt: skip
        """Likewise, with the terms that complete it."""
        states = by_tokens(query, key, value)
        places = (cu_seqlens,) if mask is None else (None, mask)
        flags = {"scale": scale, "center": int(center), "gated": int(gated)}
        found = domain.CompletedAttention(
            *states, alpha, identity, mixed, pool, taps, side, *places, **flags
        )
        return by_tokens(found)[0]

    def rms_norm(hidden, normalized_shape, weight=None, eps=None):  # type: ignore[no-untyped-def]
        """In the form that ONNX Runtime fuses to a single kernel."""
        if weight is None:
            weight = op.Constant(value=onnx.numpy_helper.from_array(_ones(normalized_shape[0])))
        variance = op.ReduceMean(op.Pow(hidden, 2.0), [-1], keepdims=1)
        return op.Mul(op.Div(hidden, op.Sqrt(op.Add(variance, eps))), weight)

    return {
        torch.ops.osa.attention.default: attention,
        torch.ops.osa.completed_attention.default: completed,
        torch.ops.aten.rms_norm.default: rms_norm,
    }


def _ones(width: int) -> np.ndarray:
    return np.ones(width, dtype=np.float32)


def _name_sizes(proto: onnx.ModelProto, layout: Layout) -> None:
    """Name the dynamic sizes of inputs and outputs by what they count."""
    names = {
        "packed": {
            "input_ids": ["tokens"],
            "features": ["tokens"],
            "cu_seqlens": ["offsets"],
            "embeddings": ["sequences"],
            "norms": ["sequences"],
            "token_embeddings": ["tokens"],
        },
        "padded": {
            "input_ids": ["batch", "length"],
            "features": ["batch", "length"],
            "attention_mask": ["batch", "length"],
            "embeddings": ["batch"],
            "norms": ["batch"],
            "token_embeddings": ["batch", "length"],
        },
    }[layout]
    for value in (*proto.graph.input, *proto.graph.output):
        for size, name in zip(value.type.tensor_type.shape.dim, names[value.name], strict=False):
            size.dim_param = name
    del proto.graph.value_info[:]  # they use the exporter's names; shape inference recomputes them


def _drop_traces(proto: onnx.ModelProto) -> None:
    """Remove the exporter's metadata, which has paths of the machine that it ran on."""
    for part in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]
    for part in (*proto.graph.initializer, *proto.graph.node):
        part.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    proto.graph.doc_string = ""


def _import(proto: onnx.ModelProto, domain: str, version: int) -> None:
    for entry in proto.opset_import:
        if entry.domain == domain:
            entry.version = version
            return
    proto.opset_import.append(onnx.helper.make_opsetid(domain, version))


def _describe(proto: onnx.ModelProto, model: EmbeddingModel) -> None:
    """Store facts of the model in the file, for use without its directory."""
    config = model.config.to_json()
    operator = COMPLETED if model.config.is_completed else OPERATOR
    facts = {
        "osa.model": model.checkpoint_sha256,
        "osa.config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "osa.mixer": model.config.mixer_name,
        "osa.pooling": model.config.pooling,
        "osa.task": model.config.task,
        "osa.max_seq_len": str(model.config.max_seq_len),
        "osa.operator": f"{DOMAIN}::{operator} version {VERSION}",
    }
    if model.config.head is not None:
        facts["osa.labels"] = json.dumps(model.config.head.labels, ensure_ascii=False)
        facts["osa.score"] = model.config.head.score
    if model.config.token_types:
        facts["osa.token_type_stride"] = str(model.config.vocab_size)
    if model.tokenizer is not None:
        text = model.tokenizer.to_json()
        facts["osa.tokenizer_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    proto.producer_name = "osa-encoder"
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, facts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about optional packages; errors are still logged."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
