"""MiniLM in ONNX Runtime: transformers' model as a graph, with the runtime's fusions for BERT."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.serving.programs.minilm import MAX_TOKENS

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


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


class OnnxMiniLM:
    """Encoder of padded batches, one thread, all optimisations of the runtime."""

    def __init__(self, path: str) -> None:
        """Load the graph of the model in ``path``."""
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        self._session = onnxruntime.InferenceSession(
            str(graph_of(path)), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, float32 [n, 384]."""
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="np"
        )
        (hidden,) = self._session.run(None, {name: batch[name] for name in INPUTS})
        weights = batch["attention_mask"][..., None].astype(np.float32)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        vectors: np.ndarray = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors
