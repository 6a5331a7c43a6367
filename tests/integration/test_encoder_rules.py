"""Every option of an encoder the whole way: trained, saved, served in any batch, exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from osa.export.exporter import ExportOptions, export_model
from osa.export.inspection import describe_artifact
from osa.export.manifest import load_artifact
from osa.model import EmbeddingModel
from osa.model.embedding_model import PRETRAINED
from osa.service.cli import main
from osa.service.engines.batch_invariance import is_batch_invariant
from osa.service.engines.eager import EagerEngine
from tests.conftest import make_tiny_model

REDUCED: dict[str, Any] = {
    "bottleneck": "rank_reduction", "bottleneck_size": 8, "matryoshka_dims": (8, 4)
}  # fmt: skip
RULES: dict[str, dict[str, Any]] = {
    "none": {"residual": "none", "norm": False},
    "delta": {"residual": "delta"},
    "delta4": {"residual": "delta4"},
    "write-only": {"residual": "write_only"},
    "monarch": {"linear": "monarch"},
    "no-vo": {"vo": "none"},
    "no-ffn": {"ffn": "none"},
    "minimal": {"mixer": "softmax", "share_qk": True, "vo": "none", "ffn": "none"},
    "bottleneck": REDUCED,
}
SLOW = ("delta", "delta4", "write-only")
"""Those that the CPU kernel does not have."""
WORDS = ["cat", "dog", "horse", "sheep", "goose", "hen", "fox", "bear", "barn", "river"]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records for the objectives that need no teacher."""
    generator = np.random.default_rng(0)
    phrases = [" ".join(generator.choice(WORDS, 3 + i % 9)) for i in range(48)]
    rows = [
        {"text": text, "anchor": text, "positive": f"a {text}", "label": "cat" in text}
        for text in phrases
    ]
    file = tmp_path_factory.mktemp("rules") / "data.jsonl"
    file.write_text("\n".join(json.dumps({**row, "label": str(row["label"])}) for row in rows))
    return file


def train(records: Path, output: Path, objective: str, rule: dict[str, Any], *more: str) -> int:
    recipe = output.with_suffix(".toml")
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ffn_size": 32}
    model = "\n".join(f"{k} = {json.dumps(v)}" for k, v in {**sizes, **rule}.items())
    start = any(part.startswith("start=") for part in more)
    recipe.write_text(
        f"""
objective = "{objective}"
bf16 = {str(objective == "contrastive").lower()}
{"" if start else f'tokenizer = "{PRETRAINED}/tokenizer.json"'}
{"" if start else f"[model]{chr(10)}{model}"}
[data]
files = ["{records}"]
held_out = ["{records}"]
cache = "{records.parent}/cache"
[optimizer]
steps = 5
batch_size = 16
chunk_tokens = 60
warmup = 2
[report]
log_every = 1
"""
    )
    settings = [part for setting in more for part in ("--set", setting)]
    command = ["train", "--config", str(recipe), "--output", str(output), "--quiet"]
    return main([*command, "--dtype", "float32", *settings])


@pytest.mark.parametrize("name", RULES)
def test_it_trains_and_serves(
    name: str,
    records: Path,
    tmp_path: Path,
    serve: Callable[..., httpx.Client],
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "model"
    assert train(records, output, "contrastive", RULES[name]) == 0
    model = EmbeddingModel.from_pretrained(output)
    rule = {**RULES[name], "matryoshka_dims": RULES[name].get("matryoshka_dims", ())}
    assert {key: getattr(model.config, key) for key in rule} == rule
    capsys.readouterr()
    assert main(["inspect", str(output)]) == 0
    described = json.loads(capsys.readouterr().out)
    wanted = {key: value for key, value in RULES[name].items() if key in described["options"]}
    assert described["options"] == wanted
    assert wanted
    client = serve(model__path=output, model__dtype="float32")
    texts = ["a cat on the barn", "river", "fox " * 40]
    answer = client.post("/embed", json={"inputs": texts})
    assert answer.status_code == 200
    torch.testing.assert_close(torch.tensor(answer.json()), model.encode(texts), atol=1e-5, rtol=0)
    if name == "bottleneck":
        short = client.post("/embed", json={"inputs": texts, "dimensions": 4}).json()
        assert torch.tensor(short).shape == (3, 4)
        assert model.bottleneck is not None
        assert model.bottleneck.spread.min() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", RULES)
def test_a_vector_has_the_same_bits_in_any_batch(name: str, dtype: str, tmp_path: Path) -> None:
    make_tiny_model(**{"matryoshka_dims": (), **RULES[name]}).save_pretrained(tmp_path / "model")
    engine = EagerEngine(tmp_path / "model", device="cpu", dtype=dtype)
    assert engine.info.products.startswith("torch" if name in SLOW else "native")
    assert is_batch_invariant(engine, batches=6)


@pytest.mark.parametrize("objective", ["mlm", "classify"])
@pytest.mark.parametrize("rule", [{"residual": "delta4", "linear": "monarch"}, RULES["bottleneck"]])
def test_other_objectives_train_it(
    objective: str, rule: dict[str, Any], records: Path, tmp_path: Path
) -> None:
    assert train(records, tmp_path / "model", objective, rule) == 0
    model = EmbeddingModel.from_pretrained(tmp_path / "model")
    expected = 2 if objective == "classify" else model.config.vector_size
    assert model.encode(["a cat"], normalize=False).shape == (1, expected)


def test_batches_smaller_than_the_bottleneck_are_refused(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = {"bottleneck": "rank_reduction", "bottleneck_size": 16}
    assert train(records, tmp_path / "m", "contrastive", rule, "optimizer.batch_size=8") == 2
    assert "must be at least model.bottleneck_size (16)" in capsys.readouterr().err


def test_a_trained_model_goes_on_with_monarch_matrices(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert train(records, first, "contrastive", {}) == 0
    start = f"start='{first}'"
    assert train(records, second, "contrastive", {}, start, "linear='monarch'") == 0
    dense, monarch = map(EmbeddingModel.from_pretrained, (first, second))
    assert monarch.config.linear == "monarch"
    count = [sum(p.numel() for p in m.encoder.blocks.parameters()) for m in (dense, monarch)]
    assert count[1] < 0.7 * count[0]
    back = f"start='{second}'"
    rate = "optimizer.learning_rate=1e-12"
    assert train(records, third, "contrastive", {}, back, "linear='dense'", rate,
                 "optimizer.embedding_rate=1e-12", "optimizer.alpha_rate=1e-12") == 0  # fmt: skip
    texts = ["a cat", "the fox and the bear"]
    found = EmbeddingModel.from_pretrained(third).encode(texts)
    torch.testing.assert_close(found, monarch.encode(texts), atol=1e-5, rtol=0)
    assert train(records, tmp_path / "fourth", "contrastive", {}, "linear='monarch'") == 2
    assert "set start, or model.linear" in capsys.readouterr().err


TOGETHER: dict[str, Any] = {"residual": "delta4", "linear": "monarch", "vo": "none", **REDUCED}
EXPORTS = [
    *(("onnx", rule) for rule in RULES.values()),
    ("torch-export", {"ffn": "none", **TOGETHER}),
    ("aoti", TOGETHER),
]


@pytest.mark.parametrize(("kind", "rule"), EXPORTS)
def test_it_is_exported_and_verified(kind: str, rule: dict[str, Any], tmp_path: Path) -> None:
    sizes = {"num_layers": 1, "matryoshka_dims": (), "max_seq_len": 32}
    model = make_tiny_model(**{**sizes, **rule})
    if model.bottleneck is not None:
        model.bottleneck.reduce(torch.randn(20, 16))
    layout = "padded" if model.config.mixer == "softmax" else "packed"
    results = export_model(model, tmp_path / "artifact", ExportOptions(kind, layout))  # type: ignore[arg-type]
    assert all(len(deviations) > 5 for deviations in results.values())
    described = describe_artifact(load_artifact(tmp_path / "artifact"))
    assert described["options"].items() <= rule.items()
