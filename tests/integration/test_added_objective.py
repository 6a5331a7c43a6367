"""An objective outside the package needs only its class and a registry entry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import Field as Setting
from safetensors.torch import load_file
from torch import Tensor, nn

from osa.model.embedding_model import PRETRAINED, EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.records.fields import Field
from osa.model.training.config import load_config
from osa.model.training.data.batch import Example, PackedBatch
from osa.model.training.objectives.base import ObjectiveInputs, TokenObjective
from osa.model.training.objectives.registry import REGISTRY, ObjectiveSection
from osa.service.cli import main

RECIPE = f"""
objective = "length"
bf16 = false
tokenizer = "{PRETRAINED}/tokenizer.json"
[model]
hidden_size = 32
num_layers = 1
num_heads = 2
ffn_size = 64
[data]
files = ["DIR/texts.txt"]
held_out = ["DIR/texts.txt"]
cache = "DIR/cache"
[length]
scale = 0.1
log = "DIR/log"
[optimizer]
steps = 20
batch_size = 8
warmup = 2
learning_rate = 1e-2
[report]
log_every = 1
"""


class LengthSection(ObjectiveSection):
    """Objective ``length``: the number of words of a text, by regression."""

    implementation = f"{__name__}:Length"
    fields = (Field("text", "text", "text"),)
    locations = frozenset({"log"})
    scale: float = Setting(gt=0)
    log: Path | None = None

    def check(self) -> None:
        if self.scale > 1:
            raise ConfigError("length.scale is too large for this machine")


class Length(TokenObjective):
    """The number of words as a linear function of the pooled vector."""

    section: LengthSection
    scores = ("error",)

    def __init__(self, section: LengthSection, inputs: ObjectiveInputs) -> None:
        super().__init__(section, inputs)
        assert inputs.model.tokenizer is not None
        self.tokenizer = inputs.model.tokenizer
        self.head = nn.Linear(inputs.model.config.output_size, 1)

    def examples(self, rows: np.ndarray, places: np.ndarray, step: int) -> list[Example]:
        texts = self.store.take(rows)["text"]
        encoded = self.tokenizer.encode(texts, self.max_tokens)
        return [
            Example(item.ids, labels=[len(text.split())])
            for text, item in zip(texts, encoded, strict=True)
        ]

    def terms(self, examples: Sequence[Example]) -> int:
        return len(examples)

    def forward(self, model: EmbeddingModel, head: nn.Module, packed: PackedBatch) -> Tensor:
        output = model(packed.inputs, None, packed.cu_seqlens)
        found: Tensor = head(output.embeddings * output.norms[:, None])[:, 0]
        return (found - self.section.scale * packed.labels).square().sum()

    def evaluate(self, model: EmbeddingModel, head: nn.Module) -> dict[str, float]:
        return {"error": 0.5}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe for the objective, which is registered during the test."""
    monkeypatch.setitem(REGISTRY, "length", LengthSection)
    lines = [" ".join(["word"] * (1 + i % 12)) for i in range(48)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    path = tmp_path / "length.toml"
    path.write_text(RECIPE.replace("DIR", str(tmp_path)))
    return path


def train(recipe: Path, *more: str) -> int:
    output = str(recipe.parent / "model")
    return main(["train", "--config", str(recipe), "--output", output, "--quiet", *more])


def test_it_trains_by_the_public_command(recipe: Path) -> None:
    assert train(recipe) == 0
    work = recipe.parent / "model.run"
    losses = [float(row.split(",")[1]) for row in (work / "metrics.csv").read_text().split()[1:]]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    record = json.loads((recipe.parent / "model" / "training.json").read_text())
    assert record["config"]["length"]["scale"] == 0.1
    assert record["held_out"] == {"error": 0.5}
    assert load_file(recipe.parent / "model" / "head.safetensors")["weight"].shape == (1, 32)
    assert torch.isfinite(EmbeddingModel.from_pretrained(recipe.parent / "model").encode("a")).all()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("length.scale=7", "length.scale is too large for this machine"),
        ("length.scale=0", "length.scale: Input should be greater than 0"),
        ("length.scal=1", "length.scal: unknown; did you mean length.scale?"),
        ("mlm.mask_share=0.5", "section mlm does not go with objective 'length'"),
        ("objective='mlm'", "section length does not go with objective 'mlm'"),
        ("objective='leng'", "did you mean length?"),
        ("data.columns={body='x'}", "data.columns names 'body', the fields are text"),
    ],
)
def test_its_requests_are_checked_like_all_others(
    recipe: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert train(recipe, "--set", override) == 2
    assert message in capsys.readouterr().err


def test_a_section_with_a_required_setting_is_asked_for(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("[length]\nscale = 0.1\nlog =", "[report]\n#"))
    recipe.write_text(recipe.read_text().replace("[report]\nlog_every = 1\n", ""))
    with pytest.raises(ConfigError, match=r"objective 'length' needs length\.scale"):
        load_config(recipe)


def test_places_on_disk_are_no_part_of_its_identity(recipe: Path) -> None:
    digest = load_config(recipe).digest()
    assert load_config(recipe, ["length.log='elsewhere'"]).digest() == digest
    assert load_config(recipe, ["length.scale=0.2"]).digest() != digest
