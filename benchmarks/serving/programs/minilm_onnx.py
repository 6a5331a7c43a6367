"""MiniLM in ONNX Runtime: transformers' model as a graph, with the runtime's fusions for BERT."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import AutoModel

from benchmarks.serving.programs.minilm import INPUTS, pool


class Hidden(torch.nn.Module):
    """The encoder's hidden states as a function of the three inputs."""

    def __init__(self, model: Any) -> None:
        """Wrap transformers' model."""
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any, types: Any) -> Any:
        """States of every token."""
        return self.model(ids, attention_mask=mask, token_type_ids=types).last_hidden_state


def graph_of(path: str) -> Path:
    """The graph of the model in ``path``, written at the first call."""
    name = hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:12]
    file = Path(tempfile.gettempdir()) / f"minilm-{os.getuid()}-{name}.onnx"
    if file.is_file():
        return file
    load: Any = AutoModel.from_pretrained
    model = Hidden(load(path, attn_implementation="eager").eval())
    example = tuple(torch.ones(2, 16, dtype=torch.int64) for _ in INPUTS)
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=2, max=512)}
    raw = file.with_suffix(".raw.onnx")
    program: Any = torch.onnx.export(
        model,
        example,
        input_names=list(INPUTS),
        output_names=["hidden"],
        dynamic_shapes=(axes, axes, axes),
        dynamo=True,
    )
    program.save(str(raw))
    from onnxruntime.transformers.optimizer import optimize_model

    fused = optimize_model(str(raw), "bert", num_heads=12, hidden_size=384, opt_level=0)
    fused.save_model_to_file(str(file))
    print("fused operators:", fused.get_fused_operator_statistics(), flush=True)
    return file


def rounded_graph_of(path: str) -> Path:
    """The same with products in 8 bits, as the runtime's own tool makes it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = graph_of(path)
    file = exact.with_suffix(".int8.onnx")
    if not file.is_file():
        quantize_dynamic(exact, file, per_channel=True, weight_type=QuantType.QInt8)
    return file


class OnnxMiniLM:
    """In ONNX Runtime, with all its optimisations."""

    def __init__(self, path: str, dtype: str) -> None:
        """Load the graph of the model in ``path``; ``dtype`` is ``float32`` or ``int8``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        graph = rounded_graph_of(path) if dtype == "int8" else graph_of(path)
        self._session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )

    def run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """See ``Encoder``."""
        (hidden,) = self._session.run(None, dict(batch))
        return pool(hidden, batch["attention_mask"])
