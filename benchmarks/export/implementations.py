"""The compared runners: one encoder in every artifact format, and with softmax attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from osa.export.exporter import ExportOptions, export_model
from osa.export.graph_inputs import lay_out
from osa.export.manifest import Artifact, load_artifact
from osa.export.onnx_model.runner import OnnxRunner
from osa.export.ort_ops import find_library
from osa.export.runner import Runner, open_runner
from osa.model import EmbeddingModel

Run = Callable[[list[np.ndarray]], object]


def make_implementations(folder: Path, threads: int) -> Iterator[tuple[str, Run]]:
    """Names and runners of the packaged model in every format, and of its softmax control.

    Args:
        folder: Folder of the artifacts; existing ones are used again.
        threads: Threads of every runtime.
    """
    torch.set_num_threads(threads)
    model = EmbeddingModel.from_pretrained()
    onnx = _artifact(model, folder / "onnx", ExportOptions("onnx"))
    if find_library() is not None:
        yield "ORT, native node", _runner(OnnxRunner(onnx, "cpu", "native", threads), onnx)
    yield "ORT, body", _runner(OnnxRunner(onnx, "cpu", "body", threads), onnx)
    small = _artifact(model, folder / "int8", ExportOptions("onnx", dtype="int8"))
    yield "ORT, native node, int8", _runner(OnnxRunner(small, "cpu", "auto", threads), small)
    aoti = _artifact(model, folder / "aoti", ExportOptions("aoti"))
    yield "AOTInductor", _runner(open_runner(aoti), aoti)
    yield "torch, eager", _eager(model)
    control = EmbeddingModel(dataclasses.replace(model.config, mixer="softmax"), model.tokenizer)
    softmax = _artifact(control.eval(), folder / "softmax", ExportOptions("onnx", "padded"))
    yield "ORT, softmax", _runner(OnnxRunner(softmax, "cpu", "auto", threads), softmax)


def _artifact(model: EmbeddingModel, path: Path, options: ExportOptions) -> Artifact:
    if not path.is_dir():
        export_model(model, path, options)
    return load_artifact(path)


def _runner(runner: Runner, artifact: Artifact) -> Run:
    return lambda rows: runner.run(*lay_out(rows, artifact.manifest))


def _eager(model: EmbeddingModel) -> Run:
    @torch.inference_mode()
    def run(rows: list[np.ndarray]) -> object:
        return model.embed_ids([row.tolist() for row in rows])

    return run
