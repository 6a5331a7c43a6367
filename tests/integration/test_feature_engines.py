"""Every engine takes features: the checkpoint's vectors, the same bits in any batch, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osa.export.exporter import ExportOptions, export_model
from osa.model import EmbeddingModel
from osa.model.errors import InputError
from osa.service.engines.base import Details
from osa.service.engines.batch_invariance import is_batch_invariant
from osa.service.engines.eager import EagerEngine
from osa.service.engines.selection import select_engine
from osa.service.model_settings import ModelSettings
from tests.feature_model import WIDTH

FEATURES = [
    np.random.default_rng(n).standard_normal((n, WIDTH), dtype=np.float32) for n in (1, 2, 7, 12)
]


def settings(path: Path, **values: Any) -> ModelSettings:
    return ModelSettings(path=path, dtype="float32", **values)


@pytest.mark.parametrize("kind", ["eager", "compile", "onnx", "torch-export"])
def test_features_have_their_checkpoints_vectors_in_every_engine(
    kind: str, feature_checkpoint: Path, tmp_path: Path
) -> None:
    path, model = feature_checkpoint, EmbeddingModel.from_pretrained(feature_checkpoint)
    if kind not in ("eager", "compile"):
        path = tmp_path / kind
        export_model(model, path, ExportOptions(kind))
    chosen = {"engine": kind} if path == feature_checkpoint else {}
    engine = select_engine(settings(path, **chosen)).engine
    engine.warm_up()
    assert (engine.info.feature_size, engine.tokenizer) == (WIDTH, None)
    spans = [None, ((0, 2),), ((1, 4), (0, 7)), None]
    found = engine.embed(FEATURES, Details(token_vectors=True, spans=spans))
    expected = model.encode_features(FEATURES).numpy()
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-5)
    rows = found.token_vectors or []
    assert [len(part) for part in rows] == [1, 2, 7, 12]
    parts = found.span_vectors or []
    np.testing.assert_allclose(parts[2][0], rows[2][1:4].mean(axis=0), atol=1e-5)
    assert is_batch_invariant(engine)
    refused: Any = [np.ones((2, WIDTH + 1))], [FEATURES[0], np.ones((13, WIDTH))]
    for wrong in refused:
        with pytest.raises(InputError, match="sequence"):
            engine.embed(wrong)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrower_ones_are_close_and_have_the_same_bits_in_any_batch(
    feature_checkpoint: Path, dtype: str
) -> None:
    engine = EagerEngine(feature_checkpoint, "cpu", dtype=dtype)
    wanted = EagerEngine(feature_checkpoint, "cpu").embed(FEATURES).embeddings
    np.testing.assert_allclose(engine.embed(FEATURES).embeddings, wanted, atol=0.05)
    again = engine.embed(FEATURES, exact=True).embeddings
    np.testing.assert_allclose(again, wanted, atol=0.02)
    assert is_batch_invariant(engine)


def test_a_collection_of_features_is_timed_too(feature_checkpoint: Path, tmp_path: Path) -> None:
    model = EmbeddingModel.from_pretrained(feature_checkpoint)
    export_model(model, tmp_path / "graph", ExportOptions("torch-export"))
    shutil.copytree(feature_checkpoint, tmp_path / "plain")
    assert "fastest of those" in select_engine(settings(tmp_path)).reason
