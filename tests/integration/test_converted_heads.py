"""``osa convert`` of models that do not embed: a reranker, a classifier, SPLADE; then served."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from osa.model import EmbeddingModel
from osa.model.conversion.texts.pairs import make_pairs
from osa.service.cli import main
from tests.transformer_models import make

pytestmark = pytest.mark.usefixtures("short_timings")
WORDS = (
    "the old bird sings while a quiet river turns under seven bright stars and no one hears how "
    "markets fell on tuesday after banks in london sold gold engines heat water into steam that "
    "drives cold wheels doctors found new cells of blood within hours children play guitar outside"
)
TASKS = ("reranker", "classifier", "sparse")


@pytest.fixture(scope="module", params=TASKS)
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("teachers") / str(request.param)
    if request.param == "sparse":
        make(directory, "bert", "ForMaskedLM", num_hidden_layers=2)
        make_sparse(directory)
    else:
        make_classifier(directory, 1 if request.param == "reranker" else 3)
    (directory / "texts.txt").write_text("\n".join(texts(300)))
    return directory


def texts(count: int) -> list[str]:
    """Texts of one to nine sentences of random words."""
    generator, words = np.random.default_rng(0), WORDS.split()

    def sentence() -> str:
        return " ".join(generator.choice(words, generator.integers(4, 12))).capitalize()

    return [". ".join(sentence() for _ in range(1 + k % 9)) + "." for k in range(count)]


@torch.no_grad()
def make_classifier(directory: Path, labels: int) -> None:
    """A random model of pooled means; its last layer lies along the principal axes of these."""
    model = make(
        directory, "modernbert", "ForSequenceClassification",
        num_hidden_layers=2, num_labels=labels, classifier_pooling="mean",
    )  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    rows = [tokenizer(*pair, return_tensors="pt") for pair in make_pairs(texts(60), 0)]
    rows = [{"input_ids": row["input_ids"]} for row in rows]
    pooled = torch.cat([model.head(model.model(**row)[0].mean(1)) for row in rows])
    centred = pooled - pooled.mean(0)
    axes = torch.linalg.svd(centred).Vh[:labels]
    axes /= (centred @ axes.T).std(0)[:, None]
    model.classifier.weight.copy_(axes)
    model.classifier.bias.copy_(-axes @ pooled.mean(0))
    model.save_pretrained(directory)


def make_sparse(directory: Path) -> None:
    """The modules of sentence-transformers that make SPLADE of a masked-token model."""
    kinds = {"MLMTransformer": "", "SpladePooling": "1_SpladePooling"}
    modules = [
        {"idx": place, "name": str(place), "path": path,
         "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for place, (kind, path) in enumerate(kinds.items())
    ]  # fmt: skip
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_SpladePooling").mkdir()
    (directory / "1_SpladePooling" / "config.json").write_text("{}")


def convert(teacher: Path, output: Path, *more: str, steps: str = "25,12") -> int:
    return main([
        "convert", str(teacher), "--output", str(output), "--texts", str(teacher / "texts.txt"),
        "--steps", steps, "--batch-tokens", "256", "--max-tokens", "64", "--quiet",
        "--dtype", "float32", *more,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def converted(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("converted") / teacher.name
    assert convert(teacher, output) == 0
    return output


def test_its_scores_come_near_the_teachers(teacher: Path, converted: Path) -> None:
    record = json.loads((converted / "conversion.json").read_text())
    scores = record["scores"]
    assert (
        next(iter(scores.values()))
        > {"reranker": 0.3, "classifier": 0.3, "sparse": 0.7}[teacher.name]
    )
    assert record["scores_by_length"]
    card = (converted / "README.md").read_text()
    assert "vectors" not in card.partition("Made with")[0]
    assert "held-out texts" in card
    assert not (converted / "calibration.json").exists()


def test_the_head_is_the_teachers(teacher: Path, converted: Path) -> None:
    own, others = (EmbeddingModel.from_pretrained(path) for path in (converted, teacher))
    assert own.config.task == others.config.task == teacher.name
    assert own.config.mixer == "osa"
    for name, tensor in others.state_dict().items():
        if name.startswith(("head.", "encoder.embed.")):
            assert tensor.equal(own.state_dict()[name]), name


def test_few_texts_are_learnt_on_and_not_measured(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few.txt").write_text("\n".join(texts(9)))
    assert convert(teacher, tmp_path / "m", "--texts", str(tmp_path / "few.txt"), steps="1,1") == 0
    assert "nothing was held out" in capsys.readouterr().err
    assert json.loads((tmp_path / "m" / "conversion.json").read_text())["scores"] == {}
    if teacher.name == "reranker":
        assert convert(teacher, tmp_path / "n", steps="1,1,1") == 2
        assert "a reranker has no vectors of the parts of a text" in capsys.readouterr().err


def test_what_has_no_vectors_is_not_turned(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(teacher, tmp_path / "m", "--matryoshka", "32,8") == 2
    assert f"--matryoshka turns vectors, this is a model of {teacher.name}" in (
        capsys.readouterr().err
    )
    (tmp_path / "pairs.tsv").write_text("1\ta\ta\n0\ta\tb\n")
    if teacher.name == "classifier":
        assert convert(teacher, tmp_path / "m", "--sts", str(tmp_path / "pairs.tsv")) == 2
        assert "--sts takes models that give two texts a similarity" in capsys.readouterr().err


def test_pairs_of_files_are_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A classifier of pairs, such as one of entailment."""
    make(tmp_path / "nli", "bert", "ForSequenceClassification", num_hidden_layers=2, num_labels=3)
    file = tmp_path / "pairs.jsonl"
    some = texts(80)
    lines = [{"text": one, "other": two} for one, two in itertools.pairwise(some)]
    file.write_text("\n".join(map(json.dumps, lines)))
    asked = ["convert", str(tmp_path / "nli"), "--output", str(tmp_path / "m"), "--steps", "3,2",
             "--batch-tokens", "512", "--max-tokens", "64", "--quiet"]  # fmt: skip
    assert main([*asked, "--pair-column", "other"]) == 2
    assert "--pair-column is of the files of --texts, and there are none" in capsys.readouterr().err
    told = [*asked, "--texts", str(file), "--pair-column", "other"]
    assert main([*told, "--column", "other"]) == 2
    assert "--pair-column and --column are both other" in capsys.readouterr().err
    assert main([*told, "--column", "nothing"]) == 2
    assert main(told) == 0
    record = json.loads((tmp_path / "m" / "conversion.json").read_text())
    assert record["pieces"] == 75
    assert set(record["scores"]) == {"explained", "rank_correlation", "same_label"}
