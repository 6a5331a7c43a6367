"""The gradient of a batch is the same with one chunk, many chunks, and plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from osa.model import EmbeddingModel
from osa.model.training.data.batch import IGNORED, pack
from osa.model.training.data.store import ExampleStore
from osa.model.training.distributed import Processes
from osa.model.training.network import Network
from osa.model.training.objectives.base import ObjectiveInputs
from osa.model.training.objectives.classification import Classification
from osa.model.training.objectives.contrastive import Contrastive, excluded_candidates
from osa.model.training.objectives.masked_tokens import MaskedTokens
from osa.model.training.objectives.registry import ClassifySection, ContrastiveSection, MlmSection
from osa.model.training.updates.grad_cache import batch_gradient
from tests.unit.model.conftest import Build

ALONE = Processes(0, 1, torch.device("cpu"))
ROWS = np.arange(6)
WORDS = ["cat", "dog", "house", "river", "stone", "cloud"]


def inputs(
    model: EmbeddingModel, store: ExampleStore, held_out: ExampleStore | None = None
) -> ObjectiveInputs:
    return ObjectiveInputs(model, True, store, held_out, max_tokens=32, seed=3, progress=False)


def gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    return found


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, gradient in left.items():
        torch.testing.assert_close(gradient, right[name], atol=2e-6, rtol=1e-4, msg=name)


@pytest.fixture
def contrastive(student: EmbeddingModel, store: Build) -> Contrastive:
    records = [
        {
            "anchor": f"a {word}",
            "positive": f"the {word} is here",
            "negative": f"no {word}" if i % 2 else None,
        }
        for i, word in enumerate(WORDS)
    ]
    section = ContrastiveSection()
    return Contrastive(section, inputs(student, store(records, section.example_fields())))


def test_contrastive_chunks_give_the_gradient_of_the_whole_batch(
    contrastive: Contrastive, student: EmbeddingModel
) -> None:
    network = Network(student, contrastive.head, contrastive, bf16=False)
    examples = contrastive.examples(ROWS, ROWS, 0)
    assert len(examples) == 15
    losses, found = [], []
    for budget in (10_000, 12):
        loss = batch_gradient(network, contrastive, examples, ROWS, budget, ALONE)
        losses.append(loss.total.item())
        found.append(gradients(network))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_same(*found)
    ordered = sorted(examples, key=lambda example: example.keys)
    vectors = network(pack(ordered, ALONE.device))
    keys = np.array([example.keys[0] for example in ordered])
    contrastive.loss(vectors, keys, np.ones_like(keys), ROWS).total.backward()
    assert_same(found[0], gradients(network))


def test_the_contrastive_batch_pairs_each_anchor_with_its_own_positive(
    contrastive: Contrastive,
) -> None:
    keys = np.array([place * 4 + role for place in range(6) for role in range(2 + place % 2)])
    places, roles = keys // 4, keys % 4
    vectors = F.one_hot(torch.from_numpy(places), 16).double()
    vectors[torch.from_numpy(roles == 2)] = F.one_hot(torch.tensor(15), 16).double()
    contrastive.widths = (16,)
    perfect = contrastive.loss(vectors, keys, np.ones_like(keys), ROWS).total
    assert perfect.item() < 1e-6
    swapped = vectors.clone()
    swapped[[1, 3]] = vectors[[3, 1]]
    assert contrastive.loss(swapped, keys, np.ones_like(keys), ROWS).total > 1.0


def test_a_repeated_positive_is_no_negative(student: EmbeddingModel, store: Build) -> None:
    records = [{"anchor": "x", "positive": "same"}, {"anchor": "y", "positive": "same"},
               {"anchor": "z", "positive": "x"}]  # fmt: skip
    section = ContrastiveSection()
    objective = Contrastive(section, inputs(student, store(records, section.example_fields())))
    excluded = objective._repeats(np.arange(3))
    assert excluded.tolist() == [[False, True, True], [True, False, False], [False, False, False]]


def test_a_question_that_is_there_twice_has_two_answers(
    student: EmbeddingModel, store: Build
) -> None:
    records = [{"anchor": "the cat", "positive": "meow"}, {"anchor": "a house", "positive": "home"},
               {"anchor": " the  CAT", "positive": "purr"}]  # fmt: skip
    section = ContrastiveSection()
    objective = Contrastive(section, inputs(student, store(records, section.example_fields())))
    objective.widths = (4,)
    rows = np.arange(3)
    classes = torch.tensor([0, 0, 1, 1, 0, 0])
    keys = np.array([0, 1, 4, 5, 8, 9])
    perfect = F.one_hot(classes, 4).double()
    assert objective.loss(perfect, keys, np.ones_like(keys), rows).total < 1e-6
    seen = objective._repeats(rows)
    assert seen.tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    objective.examples(rows[:1], rows[:1], 0)  # the others are those of another process
    assert torch.equal(objective._repeats(rows), seen)


def test_hard_negatives_that_answer_the_same_question_elsewhere_are_left_out() -> None:
    question, other, first, second, wrong = range(1, 6)
    excluded = excluded_candidates(
        np.array([question, other, question]),
        np.array([first, wrong, second]),
        np.array([second, wrong, other]),
    )
    assert excluded.tolist() == [
        [False, False, True, True, False, False],
        [False, False, False, False, True, True],
        [True, False, False, True, False, False],
    ]


def test_a_batch_without_repetitions_has_the_plain_loss(contrastive: Contrastive) -> None:
    generator = torch.Generator().manual_seed(1)
    keys = np.array([place * 4 + role for place in range(6) for role in range(2 + place % 2)])
    vectors = torch.randn(15, 16, generator=generator)
    contrastive.widths = (16,)
    found = contrastive.loss(vectors, keys, np.ones_like(keys), ROWS).total
    units, roles = F.normalize(vectors, dim=-1), torch.from_numpy(keys % 4)
    anchors, positives = units[roles == 0], units[roles == 1]
    target = torch.arange(6)
    temperature = contrastive.section.temperature
    there = F.cross_entropy(
        anchors @ torch.cat([positives, units[roles == 2]]).T / temperature, target
    )
    back = F.cross_entropy(positives @ anchors.T / temperature, target)
    wanted = torch.stack([there, back] if contrastive.section.symmetric else [there]).mean()
    assert torch.equal(found, wanted)


@pytest.fixture
def masked(student: EmbeddingModel, store: Build) -> MaskedTokens:
    texts = [{"text": " ".join(WORDS[:n] * 3)} for n in range(1, 7)]
    section = MlmSection(mask_share=0.3)
    return MaskedTokens(section, inputs(student, store(texts, section.example_fields())))


def test_masked_token_chunks_give_the_gradient_of_the_whole_batch(
    masked: MaskedTokens, student: EmbeddingModel
) -> None:
    network = Network(student, masked.head.double(), masked, bf16=False)
    examples = masked.examples(ROWS, ROWS, 5)
    found = []
    for budget in (10_000, 20):
        loss = batch_gradient(network, masked, examples, ROWS, budget, ALONE)
        found.append(gradients(network))
    assert_same(*found)
    assert loss.total.item() == pytest.approx(np.log(masked.vocab_size), rel=0.1)


def test_masking_is_a_function_of_seed_update_and_row(masked: MaskedTokens) -> None:
    first = masked.examples(ROWS, ROWS, 5)
    assert masked.examples(ROWS[::-1], ROWS, 5)[::-1] == first
    assert masked.examples(ROWS, ROWS, 6) != first


def test_only_inner_tokens_are_masked_and_labels_tell_what_was_there(
    masked: MaskedTokens, student: EmbeddingModel
) -> None:
    assert student.tokenizer is not None
    kinds = {"mask": 0, "kept": 0, "other": 0}
    for step in range(200):
        for row, example in zip(ROWS, masked.examples(ROWS, ROWS, step), strict=True):
            (whole,) = student.tokenizer.encode(masked.store.take([int(row)])["text"])
            assert example.labels[0] == example.labels[-1] == IGNORED
            for token, label, truth in zip(example.inputs, example.labels, whole.ids, strict=True):
                assert label in (IGNORED, truth)
                if label == IGNORED:
                    assert token == truth
                else:
                    kinds[
                        "mask" if token == masked.mask else "kept" if token == truth else "other"
                    ] += 1
    total = sum(kinds.values())
    assert kinds["mask"] / total == pytest.approx(0.8, abs=0.03)
    assert kinds["other"] / total == pytest.approx(0.1, abs=0.03)


def test_classification_of_features_learns_and_chunks_agree(store: Build) -> None:
    from osa.model.config import EncoderConfig

    generator = np.random.default_rng(0)
    records = [
        {"features": (generator.normal(size=(3 + i % 4, 4)) + 2 * (i % 2)).tolist(),
         "label": ["no", "yes"][i % 2]}
        for i in range(40)
    ]  # fmt: skip
    section = ClassifySection(input="features")
    data = store(records, section.example_fields())
    config = EncoderConfig(feature_size=4, hidden_size=16, num_layers=1, num_heads=2, ffn_size=32)
    model = EmbeddingModel(config, None, torch.Generator().manual_seed(0))
    objective = Classification(section, inputs(model, data, data))
    assert objective.classes == ["no", "yes"]
    network = Network(model, objective.head, objective, bf16=False)
    rows = np.arange(40)
    examples = objective.examples(rows, rows, 0)
    found = []
    for budget in (10_000, 16):
        loss = batch_gradient(network, objective, examples, rows, budget, ALONE)
        found.append(gradients(network))
    assert loss.total.item() == pytest.approx(np.log(2), rel=1e-5)
    assert_same(*found)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(20):
        batch_gradient(network, objective, examples, rows, 10_000, ALONE)
        optimizer.step()
        optimizer.zero_grad()
    assert objective.evaluate(model, objective.head)["accuracy"] >= 0.9
