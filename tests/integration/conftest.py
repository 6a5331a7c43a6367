"""A server with a tiny model of features; short timings of conversions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from osa.model import EmbeddingModel
from osa.service.server.app import create_service
from tests.conftest import local_settings, run_service
from tests.feature_model import SEQUENCES, save_feature_model


@pytest.fixture(scope="session")
def feature_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_feature_model(tmp_path_factory.mktemp("features") / "model")


@pytest.fixture(scope="session")
def feature_client(feature_checkpoint: Path) -> Iterator[httpx.Client]:
    settings = local_settings(model__path=feature_checkpoint, model__dtype="float32")
    with run_service(create_service(settings), settings) as client:
        yield client


@pytest.fixture(scope="session")
def feature_vectors(feature_checkpoint: Path) -> np.ndarray:
    """Of ``SEQUENCES``, by the model in Python."""
    model = EmbeddingModel.from_pretrained(feature_checkpoint)
    vectors: np.ndarray = model.encode_features(SEQUENCES).numpy()
    return vectors


@pytest.fixture(scope="module")
def short_timings() -> Iterator[None]:
    """``osa convert`` measures speed at one length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("osa.model.conversion.report.SPEED_LENGTHS", (32,))
        patch.setattr("osa.model.conversion.report.SPEED_TOKENS", 512)
        yield
