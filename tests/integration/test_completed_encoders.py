"""Encoders of completed OSA the whole way: trained, served with fixed bits, streamed, exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from osa.export.exporter import ExportOptions, export_model
from osa.export.graph import trace
from osa.export.onnx_model.build import build_onnx
from osa.model import EmbeddingModel
from osa.service.engines.batch_invariance import is_batch_invariant
from osa.service.engines.eager import EagerEngine
from tests.conftest import make_tiny_model
from tests.integration.test_encoder_rules import records as records
from tests.integration.test_encoder_rules import train

COMPLETED: dict[str, Any] = {"osa_pool": True, "osa_taps": 3, "osa_gate": True}
CONVERTED = {**COMPLETED, "positions": "learned", "position_rows": 9, "norm_type": "layer",
             "norm_place": "post"}  # fmt: skip
"""As ``osa convert`` makes them of BERT."""


def model_of(**options: Any) -> EmbeddingModel:
    """With terms that do something, which they do not at the start."""
    model = make_tiny_model(matryoshka_dims=(), **options)
    random = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".completion." in name or ".side." in name:
            parameter.data.normal_(0.0, 0.5, generator=random)
    return model


def test_they_train_and_serve(
    records: Path, tmp_path: Path, serve: Callable[..., httpx.Client]
) -> None:
    output = tmp_path / "model"
    assert train(records, output, "contrastive", COMPLETED) == 0
    model = EmbeddingModel.from_pretrained(output)
    changed = [
        name for name, part in model.named_parameters() if ".completion.pool" in name and part.any()
    ]
    assert len(changed) == 2, "the pool was not trained"
    texts = ["a cat on the barn", "river", "fox " * 40]
    answer = serve(model__path=output, model__dtype="float32").post(
        "/embed", json={"inputs": texts}
    )
    assert answer.status_code == 200
    torch.testing.assert_close(torch.tensor(answer.json()), model.encode(texts), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("options", [COMPLETED, CONVERTED], ids=["completed", "converted"])
def test_a_vector_has_the_same_bits_in_any_batch(
    options: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    model_of(**options).save_pretrained(tmp_path / "model")
    engine = EagerEngine(tmp_path / "model", device="cpu", dtype=dtype)
    assert engine.info.products.startswith("native")
    assert engine.info.streams
    assert is_batch_invariant(engine, batches=6)


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("onnx", "packed"), ("onnx", "padded"), ("torch-export", "packed"),
        ("torch-export", "padded"), ("aoti", "packed"),
    ],
)  # fmt: skip
def test_they_are_exported_and_verified(kind: str, layout: str, tmp_path: Path) -> None:
    model = model_of(**{**CONVERTED, "num_layers": 1, "max_seq_len": 32})
    options = ExportOptions(kind, layout)  # type: ignore[arg-type]
    results = export_model(model, tmp_path / "artifact", options)
    assert all(len(deviations) > 5 for deviations in results.values())


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_a_layer_is_one_node_and_its_body(layout: Any) -> None:
    model = model_of(**CONVERTED)
    proto = build_onnx(model, layout)
    foreign = [node.op_type for node in proto.graph.node if node.domain]
    assert foreign == ["CompletedAttention"] * model.config.num_layers
    assert not any(node.op_type in ("Roll", "GatherND") for node in proto.graph.node)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts["osa.operator"] == "osa::CompletedAttention version 1"


def test_the_torch_program_holds_the_operator_itself() -> None:
    program = trace(model_of(**CONVERTED), "packed")
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("osa.completed_attention.default") == 2
    assert "osa.attention.default" not in targets
