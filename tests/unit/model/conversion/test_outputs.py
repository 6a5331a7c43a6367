"""What a student's outputs are compared by: vectors, logits, weights of ids."""

from __future__ import annotations

import pytest
import torch

from osa.model.config import EncoderConfig, HeadConfig
from osa.model.conversion.head_report import agreements, score_agreement
from osa.model.conversion.outputs import agreement_name, output_loss
from osa.model.conversion.report import by_length
from tests.conftest import make_tiny_model

HEADS = {
    "embedding": None,
    "reranker": HeadConfig(kind="classifier", labels=("relevant",), dense=False),
    "classifier": HeadConfig(kind="classifier", labels=("no", "yes"), dense=False),
    "sparse": HeadConfig(kind="sparse", dense=False),
}


def config_of(task: str) -> EncoderConfig:
    return EncoderConfig(vocab_size=50, head=HEADS[task])


def outputs(task: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(6, config_of(task).output_size, generator=generator)
    return torch.nn.functional.normalize(found) if task == "embedding" else found.abs()


@pytest.mark.parametrize("task", HEADS)
def test_equal_outputs_leave_nothing_to_learn(task: str) -> None:
    found = outputs(task)
    loss, agreement = output_loss(config_of(task), found.clone().requires_grad_(), found)
    assert float(loss.detach()) < 1e-6
    assert float(agreement) == pytest.approx(1.0, abs=1e-5)
    other, less = output_loss(config_of(task), found.flip(0), found)
    assert float(other) > 0.1
    assert float(less) < 0.99


@pytest.mark.parametrize("task", ["reranker", "classifier"])
def test_a_constant_explains_nothing_of_logits(task: str) -> None:
    found = outputs(task)
    loss, agreement = output_loss(config_of(task), found.mean(0).expand_as(found), found)
    assert float(loss) == pytest.approx(1.0, abs=1e-5)
    assert float(agreement) == pytest.approx(0.0, abs=1e-5)


def test_scores_are_told_by_length() -> None:
    model = make_tiny_model(head=HEADS["classifier"], matryoshka_dims=())
    wanted = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 1.0]])
    found = wanted.clone()
    found[2, 0] -= 4.0
    told = score_agreement(model, found, wanted)
    assert set(told) == {"explained", "rank_correlation", "same_label"}
    assert told["same_label"] == pytest.approx(2 / 3, abs=1e-3)
    lengths = by_length(agreements(model, found, wanted), [4, 5, 40])
    assert lengths == {"1-8": 1.0, "33-64": pytest.approx(-3.5)}
    assert agreement_name(config_of("sparse")) == "cosine"


@pytest.mark.parametrize("count", [1, 3])
def test_equal_outputs_of_a_teacher_do_not_blow_up_the_loss(count: int) -> None:
    """Nor a batch of one sequence: there is nothing to explain then."""
    target = torch.full((count, 2), 0.5)
    loss, agreement = output_loss(config_of("classifier"), target + 0.01, target)
    assert float(loss) == pytest.approx(0.01, rel=0.05)
    assert float(agreement) > 0.98
