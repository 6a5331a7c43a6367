"""The objectives beside distillation, from files to a checkpoint, and what bad data does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from osa.model import EmbeddingModel
from osa.model.embedding_model import PRETRAINED
from osa.service.cli import main

ANIMALS = ["cat", "dog", "horse", "sheep", "goose", "hen", "fox", "bear"]
PLACES = ["barn", "river", "forest", "meadow", "kitchen", "garden", "road", "village"]
SMALL = """
[model]
hidden_size = 32
num_layers = 1
num_heads = 2
ffn_size = 64
matryoshka_dims = [32, 16]
"""


def recipe(directory: Path, objective: str, files: str, more: str = "", steps: int = 30) -> Path:
    """A recipe file for a small model; ``files`` lies in the directory."""
    path = directory / f"{objective}.toml"
    path.write_text(
        f"""
objective = "{objective}"
bf16 = false
{more}
[data]
files = ["{directory}/{files}"]
held_out = ["{directory}/{files}"]
cache = "{directory}/cache"
max_tokens = 32
[optimizer]
steps = {steps}
batch_size = 16
warmup = 3
learning_rate = 5e-3
[report]
log_every = 1
"""
    )
    return path


def train(recipe: Path, output: Path, *more: str) -> int:
    command = ["train", "--config", str(recipe), "--output", str(output), "--quiet"]
    return main([*command, "--dtype", "float32", *more])


def losses(output: Path) -> list[float]:
    lines = (output.parent / f"{output.name}.run" / "metrics.csv").read_text().splitlines()
    return [float(line.split(",")[1]) for line in lines[1:]]


def tokenizer_line() -> str:
    return f'tokenizer = "{PRETRAINED}/tokenizer.json"'


def test_pairs_from_jsonl_teach_retrieval(tmp_path: Path) -> None:
    pairs = [
        {"query": f"{a} in the {p}", "passage": f"we met the {a} near the {p}"}
        for a in ANIMALS
        for p in PLACES
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    path = recipe(tmp_path, "contrastive", "pairs.jsonl", tokenizer_line(), steps=60)
    path.write_text(path.read_text().replace("[data]", SMALL + "[data]"))
    columns = ("--set", "data.columns={anchor='query',positive='passage'}")
    assert train(path, tmp_path / "model", *columns) == 0
    found = losses(tmp_path / "model")
    assert np.mean(found[-5:]) < 0.5 * np.mean(found[:5])
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["held_out"]["recall_at_10"] > 0.8
    vectors = EmbeddingModel.from_pretrained(tmp_path / "model").encode(["a fox in the barn"])
    assert vectors.shape == (1, 32)


def test_masked_tokens_from_parquet_then_contrastive_from_that_checkpoint(tmp_path: Path) -> None:
    texts = [f"the {a} sleeps in the {p} at night" for a in ANIMALS for p in PLACES]
    pq.write_table(pa.table({"text": texts, "other": list(range(64))}), tmp_path / "t.parquet")
    path = recipe(tmp_path, "mlm", "t.parquet", tokenizer_line())
    path.write_text(path.read_text().replace("[data]", SMALL + "[data]"))
    more = ("optimizer.ema=0.5", "data.bucket_batches=2", "optimizer.learning_rate=0.05")
    settings = [part for setting in more for part in ("--set", setting)]
    assert train(path, tmp_path / "base", *settings) == 0
    found = losses(tmp_path / "base")
    assert np.mean(found[-5:]) < 0.9 * np.mean(found[:5])
    assert set(load_file(tmp_path / "base" / "head.safetensors")) == {
        "bias", "dense.weight", "norm.weight"
    }  # fmt: skip
    pairs = [{"anchor": text, "positive": text[4:]} for text in texts]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    second = recipe(tmp_path, "contrastive", "pairs.jsonl", f'start = "{tmp_path}/base"', steps=2)
    assert train(second, tmp_path / "model") == 0
    assert EmbeddingModel.from_pretrained(tmp_path / "model").config.hidden_size == 32


def test_features_from_arrow_are_classified(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [(generator.normal(size=(4, 3)) + 2 * (i % 3)).tolist() for i in range(96)]
    table = pa.table({"features": rows, "digit": [i % 3 for i in range(96)]})
    with (
        pa.OSFile(str(tmp_path / "f.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)
    path = recipe(tmp_path, "classify", "f.arrow", steps=40)
    text = path.read_text().replace("[data]", SMALL + '[classify]\ninput = "features"\n[data]')
    path.write_text(text)
    assert train(path, tmp_path / "model", "--set", "data.columns={label='digit'}") == 0
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["classes"] == [0, 1, 2]
    assert record["held_out"]["accuracy"] > 0.9
    assert EmbeddingModel.from_pretrained(tmp_path / "model").config.task == "classifier"


def test_pairs_of_features_teach_retrieval(tmp_path: Path) -> None:
    """Two noisy views of a sequence; some rows have a third, of another one."""
    generator = np.random.default_rng(0)
    clean = generator.normal(size=(48, 6, 3))
    views = clean[:, None] + 0.3 * generator.normal(size=(48, 2, 6, 3))
    pairs = [
        {"anchor": anchor.tolist(), "positive": positive.tolist(),
         "negative": views[row - 1][0].tolist() if row % 2 else None}
        for row, (anchor, positive) in enumerate(views)
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    path = recipe(tmp_path, "contrastive", "pairs.jsonl", steps=60)
    text = path.read_text().replace("[data]", SMALL + '[contrastive]\ninput = "features"\n[data]')
    path.write_text(text)
    assert train(path, tmp_path / "model") == 0
    found = losses(tmp_path / "model")
    assert np.mean(found[-5:]) < 0.5 * np.mean(found[:5])
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["held_out"]["recall_at_10"] > 0.8
    wider = [{name: [[*row, 0] for row in rows] for name, rows in pair.items() if rows}
             for pair in pairs]  # fmt: skip
    (tmp_path / "wider.jsonl").write_text("\n".join(map(json.dumps, wider)))
    again = recipe(tmp_path, "contrastive", "wider.jsonl", f'start = "{tmp_path}/model"', steps=1)
    again.write_text(again.read_text() + '[contrastive]\ninput = "features"\n')
    assert train(again, tmp_path / "again") != 0


def test_bad_lines_are_named_and_stop_a_run_before_its_first_update(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [json.dumps({"text": f"{a} {p}"}).encode() for a in ANIMALS for p in PLACES]
    bad = [b"{broken", b'{"txt": "wrong column"}', b'{"text": "caf\xe9"}', b'{"text": 7}']
    (tmp_path / "t.jsonl").write_bytes(b"\n".join([*good[:2], b"", *bad, *good[2:]]))
    path = recipe(tmp_path, "mlm", "t.jsonl", tokenizer_line(), steps=2)
    path.write_text(path.read_text().replace("[data]", SMALL + "[data]"))
    assert train(path, tmp_path / "model") == 1
    message = capsys.readouterr().err
    assert "4 of" in message
    assert "t.jsonl:4" in message
    assert not (tmp_path / "model.run").exists()
    assert train(path, tmp_path / "model", "--set", "data.on_bad=refuse") == 1
    assert "t.jsonl:4" in capsys.readouterr().err
    assert train(path, tmp_path / "model", "--set", "data.max_bad_share=0.1") == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "a new model of texts needs a tokenizer"),
        (("--set", "start=/nowhere"), "/nowhere"),
        (("--set", "data.columns={body='text'}"), "data.columns names 'body'"),
        (("--set", "model.vocab_size=7"), "model.vocab_size follows from the data"),
        (("--set", "report.tensorboard=true"), "pip install tensorboard"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    (tmp_path / "t.txt").write_text("\n".join(ANIMALS + PLACES))
    with_tokenizer = tokenizer_line() if "tensorboard" in str(more) else ""
    path = recipe(tmp_path, "mlm", "t.txt", with_tokenizer, steps=1)
    assert train(path, tmp_path / "model", *more) in (1, 2)
    assert message in capsys.readouterr().err
