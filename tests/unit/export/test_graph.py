"""The module that is traced for export gives the model's own vectors."""

from __future__ import annotations

import pytest
import torch

from osa.export.graph import EmbeddingProgram
from tests.conftest import make_tiny_model


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_program_is_the_model(layout: str) -> None:
    model = make_tiny_model()
    ids = torch.tensor([4, 5, 6, 7, 8])
    program = EmbeddingProgram(model, layout)  # type: ignore[arg-type]
    places = torch.tensor([0, 5], dtype=torch.int32) if layout == "packed" else torch.ones(1, 5)
    embeddings, norms, tokens = program(ids if layout == "packed" else ids[None], places)
    expected = model.embed_ids([ids.tolist()])
    torch.testing.assert_close(embeddings, expected.embeddings)
    torch.testing.assert_close(norms, expected.norms)
    torch.testing.assert_close(tokens.reshape(5, -1).mean(0), (embeddings * norms[:, None])[0])
