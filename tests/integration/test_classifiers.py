"""Classifiers and rerankers by ``osa train``: what they learn, what is saved, how runs go on."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from osa.model import EmbeddingModel
from osa.model.embedding_model import PRETRAINED
from osa.model.training.trainer import Trainer
from osa.service.cli import main
from osa.service.engines.eager import EagerEngine
from tests.transformer_models import make

ANIMALS = ["cat", "dog", "horse", "sheep", "goose", "hen", "fox", "bear"]
PLACES = ["barn", "river", "forest", "meadow", "kitchen", "garden", "road", "village"]
FORMS = ["we met the {} near the {}", "a {} sleeps in the {}"]
NEW = f"""
tokenizer = "{PRETRAINED}/tokenizer.json"
[model]
hidden_size = 32
num_layers = 2
num_heads = 2
ffn_size = 64
token_types = 2
alpha_init = 1.0
matryoshka_dims = [32, 16]
"""
PAIRS = {"classify.input": '"pair"', "classify.loss": '"binary"'}


def pairs() -> list[dict[str, str | int]]:
    """A word, a sentence, and whether the word is in the sentence."""
    rows: list[dict[str, str | int]] = []
    for number, animal in enumerate(ANIMALS):
        for place, name in enumerate(PLACES):
            other = ANIMALS[(number + 1 + place % 7) % 8]
            for form in FORMS:
                rows += [
                    {"text": animal, "text_pair": form.format(animal, name), "label": 1},
                    {"text": animal, "text_pair": form.format(other, name), "label": 0},
                ]
    random.Random(0).shuffle(rows)
    return rows


def write(file: Path, rows: Sequence[dict[str, str | int]]) -> None:
    if file.suffix == ".csv":
        with file.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pairs")
    rows = pairs()
    write(directory / "train.jsonl", rows[:192])
    write(directory / "held_out.csv", rows[192:])
    return directory


def recipe(data: Path, output: Path, begin: str = NEW, train: str = "train.jsonl") -> Path:
    held_out = f'"{data}/held_out.csv"' if train == "train.jsonl" else ""
    path = output.with_suffix(".toml")
    path.write_text(
        f"""
objective = "classify"
bf16 = false
{begin}
[data]
files = ["{data}/{train}"]
held_out = [{held_out}]
cache = "{data}/cache"
max_tokens = 32
[optimizer]
steps = 4
batch_size = 32
warmup = 10
learning_rate = 1e-2
embedding_rate = 1e-2
[report]
log_every = 1
"""
    )
    return path


def run(recipe: Path, settings: dict[str, str], *more: str) -> int:
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = ["train", "--config", str(recipe), "--output", str(recipe.with_suffix(""))]
    return main([*command, "--quiet", "--dtype", "float32", *options, *more])


def score(directory: Path, texts: list[tuple[str, str]]) -> np.ndarray:
    """Logits, by the engine that serves."""
    engine = EagerEngine(directory)
    tokenizer, about = engine.tokenizer, engine.info
    assert tokenizer is not None
    ids = [item.ids for item in tokenizer.encode_pairs(texts, type_stride=about.type_stride)]
    return engine.embed(ids).embeddings


@pytest.fixture(scope="module")
def reranker(data: Path) -> Path:
    output = data / "reranker"
    assert run(recipe(data, output), {**PAIRS, "optimizer.steps": "200"}) == 0
    return output


def test_a_reranker_learns_which_sentence_a_word_is_in(reranker: Path) -> None:
    record = json.loads((reranker / "training.json").read_text())
    assert record["held_out"]["accuracy"] > 0.85
    assert record["held_out"]["mrr"] > 0.85
    assert record["labels"] == ["relevance"]
    config = EmbeddingModel.from_pretrained(reranker).config
    assert (config.task, config.token_types, config.matryoshka_dims) == ("reranker", 2, ())
    assert not (reranker / "head.safetensors").exists()
    about = EagerEngine(reranker).info
    assert (about.task, about.labels, about.score) == ("reranker", ("relevance",), "sigmoid")
    assert about.type_stride == config.vocab_size


def test_the_saved_model_scores_as_the_evaluation_says(data: Path, reranker: Path) -> None:
    held_out = pairs()[192:]
    texts = [(str(row["text"]), str(row["text_pair"])) for row in held_out]
    logits = score(reranker, texts)
    assert logits.shape == (64, 1)
    right = (logits[:, 0] > 0) == np.array([row["label"] == 1 for row in held_out])
    record = json.loads((reranker / "training.json").read_text())
    assert right.mean() == pytest.approx(record["held_out"]["accuracy"], abs=1e-6)
    alone = np.concatenate([score(reranker, [pair]) for pair in texts[:3]])
    np.testing.assert_array_equal(alone, logits[:3])


def test_a_run_that_is_stopped_comes_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**PAIRS, "optimizer.steps": "12", "optimizer.ema": "0.9"}
    whole, broken = recipe(data, tmp_path / "whole"), recipe(data, tmp_path / "broken")
    assert run(whole, settings) == 0
    update = Trainer.update

    def stopping(self: Trainer) -> dict[str, float]:
        if self.counters.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", stopping)
        assert run(broken, settings) == 1
    assert not (tmp_path / "broken").exists()
    assert run(broken, settings, "--resume") == 0
    one, other = (EmbeddingModel.from_pretrained(tmp_path / n) for n in ("whole", "broken"))
    found = other.state_dict()
    assert "head.out.weight" in found
    for name, tensor in one.state_dict().items():
        assert torch.equal(found[name], tensor), name
    logs = [tmp_path / f"{name}.run" / "metrics.csv" for name in ("whole", "broken")]
    assert logs[0].read_text() == logs[1].read_text()


def test_several_labels_of_pairs_make_a_classifier(data: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": ("no", "yes")[int(row["label"])]} for row in pairs()]
    write(tmp_path / "named.csv", rows)
    path = recipe(tmp_path, tmp_path / "model", train="named.csv")
    settings = {"classify.input": '"pair"', "data.held_out": f'["{tmp_path}/named.csv"]'}
    assert run(path, settings) == 0
    about = EagerEngine(tmp_path / "model").info
    assert (about.task, about.labels, about.score) == ("classifier", ("no", "yes"), "softmax")
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["classes"] == record["labels"] == ["no", "yes"]
    assert set(record["held_out"]) == {"held_out_loss", "accuracy"}


def test_the_encoder_alone_is_kept_on_request(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    assert run(recipe(data, output), {**PAIRS, "classify.keep": '"encoder"'}) == 0
    config = EmbeddingModel.from_pretrained(output).config
    assert (config.task, config.matryoshka_dims) == ("embedding", (32, 16))
    assert set(load_file(output / "head.safetensors")) == {"out.weight", "out.bias"}


def test_another_objective_starts_from_the_encoder_of_a_reranker(
    reranker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, str | int]] = [
        {"anchor": animal, "positive": FORMS[0].format(animal, place)}
        for animal in ANIMALS
        for place in PLACES
    ]
    write(tmp_path / "c.jsonl", rows)
    path = recipe(tmp_path, tmp_path / "model", f'start = "{reranker}"', "c.jsonl")
    path.write_text(path.read_text().replace("classify", "contrastive"))
    assert run(path, {}) == 0
    assert "the classifier head of the model to start from is left out" in capsys.readouterr().err
    model = EmbeddingModel.from_pretrained(tmp_path / "model")
    assert model.config.task == "embedding"
    assert model.encode(["a fox"]).shape == (1, 32)


def test_a_reranker_is_trained_on_with_its_head(
    data: Path, reranker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One update with a rate of almost zero leaves the scores as they are."""
    path = recipe(data, tmp_path / "model", f'start = "{reranker}"')
    still = {"optimizer.steps": "1", "optimizer.learning_rate": "1e-12"}
    still |= {"optimizer.embedding_rate": "1e-12", "optimizer.alpha_rate": "1e-12"}
    assert run(path, {**PAIRS, **still}) == 0
    assert "head" not in capsys.readouterr().err
    texts = [("fox", "a fox sleeps in the barn"), ("fox", "a hen sleeps in the barn")]
    before, after = score(reranker, texts), score(tmp_path / "model", texts)
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert after[0, 0] > after[1, 0]


def test_a_head_with_other_labels_is_replaced(
    data: Path, reranker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(data, tmp_path / "model", f'start = "{reranker}"')
    path.write_text(path.read_text().replace(f'held_out = ["{data}/held_out.csv"]', ""))
    assert run(path, {"classify.input": '"pair"', "optimizer.steps": "1"}) == 0
    assert "with the labels ['relevance'], is replaced by a new one" in capsys.readouterr().err
    assert EagerEngine(tmp_path / "model").info.labels == ("0", "1")


def test_a_cross_encoder_of_transformers_is_trained_on(data: Path, tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert", "ForSequenceClassification", num_labels=1)
    path = recipe(data, tmp_path / "model", f'start = "{tmp_path}/bert"')
    assert run(path, {**PAIRS, "optimizer.steps": "1"}) == 0
    config = EmbeddingModel.from_pretrained(tmp_path / "model").config
    assert config.head is not None
    assert (config.task, config.token_types, config.head.dense) == ("reranker", 2, True)


def test_integers_are_the_rows_of_a_named_head(data: Path, tmp_path: Path) -> None:
    names = {0: "no", 1: "yes", 2: "perhaps"}
    make(tmp_path / "bert", "bert", "ForSequenceClassification", id2label=names)
    path = recipe(data, tmp_path / "model", f'start = "{tmp_path}/bert"')
    path.write_text(path.read_text().replace(f'held_out = ["{data}/held_out.csv"]', ""))
    assert run(path, {"classify.input": '"pair"', "optimizer.steps": "1"}) == 0
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["classes"] == [0, 1]
    assert record["labels"] == ["no", "yes", "perhaps"]


@pytest.mark.parametrize(
    ("settings", "record", "message"),
    [
        ({"classify.loss": '"binary"'}, {}, "set classify.input to pair, got text"),
        (PAIRS, {"label": 2}, "column 'label' must be a number from 0 to 1, got the number 2"),
        (PAIRS, {"label": "yes"}, "must be a number from 0 to 1, got the string 'yes'"),
        (PAIRS, {"label": 1}, "needs relevant and irrelevant pairs, got only labels of at least"),
        (PAIRS, {"text_pair": None}, "column 'text_pair' is null"),
        ({**PAIRS, "data.max_tokens": "4"}, {}, "data.max_tokens is too small for pairs"),
        ({**PAIRS, "model.token_types": "1"}, {}, "token_types must be 0, or at least 2"),
        ({**PAIRS, "data.columns": "{pair='b'}"}, {}, "the fields are text, text_pair, label"),
        ({"classify.input": '"pair"'}, {"label": 0.5}, "must be a string or an integer"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    record: dict[str, str | int],
    message: str,
) -> None:
    write(tmp_path / "bad.jsonl", [{**row, **record} for row in pairs()[:40]])
    assert run(recipe(tmp_path, tmp_path / "model", train="bad.jsonl"), settings) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model.run").exists()
