"""A student starts as its teacher in all but what mixes tokens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.config import EncoderConfig, HeadConfig
from osa.model.conversion.matching import Batch, blocks_of, match_attention, trace
from osa.model.conversion.student import make_student, mixer_of, student_config
from osa.model.errors import ConfigError
from osa.model.functional.varlen import cu_seqlens_of
from tests.transformer_models import ARCHITECTURES, make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_family_has_a_student_that_embeds(architecture: str, tmp_path: Path) -> None:
    make(tmp_path, architecture)
    teacher = EmbeddingModel.from_pretrained(tmp_path)
    student = make_student(teacher, range(teacher.config.num_layers))
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    batch = Batch(ids, cu_seqlens_of([2, 3]))
    with torch.no_grad():
        states, others = (
            model.encoder.start(ids, None, batch.cu_seqlens)[0] for model in (teacher, student)
        )
    torch.testing.assert_close(states, others)
    assert all(math.isfinite(part) for part in match_attention(student, trace(
        teacher, range(teacher.config.num_layers), batch), batch, own=True))  # fmt: skip
    student.save_pretrained(tmp_path / "student")
    loaded = EmbeddingModel.from_pretrained(tmp_path / "student")
    assert loaded.embed_ids([[5, 6], [7, 8, 9]]).embeddings.isfinite().all()


def test_all_but_the_mixing_is_the_teachers(teacher: EmbeddingModel) -> None:
    student = make_student(teacher, [0, 2])
    own = student.state_dict()
    changed = {name for name in own if ".completion." in name or ".side." in name}
    for name, tensor in teacher.state_dict().items():
        head, _, rest = name.partition("encoder.blocks.")
        if rest.startswith("1."):
            continue
        renamed = name.replace("blocks.2.", "blocks.1.") if not head else name
        assert torch.equal(own.pop(renamed), tensor), name
    assert set(own) == changed | {f"encoder.blocks.{n}.mixer.alpha" for n in range(2)}


def test_the_pool_starts_from_the_mean_query(teacher: EmbeddingModel) -> None:
    """The logits are those of a token whose query is the bias alone."""
    mixer = mixer_of(blocks_of(make_student(teacher, [0]))[0])
    hidden = torch.randn(7, 32)
    own = blocks_of(teacher)[0].mixer
    assert isinstance(own.qkv, torch.nn.Linear)
    _, key, _ = own.qkv(hidden).view(7, 3, 4, 8).unbind(1)
    query = own.qkv.bias[:32].view(4, 8)
    scores = torch.einsum("hd,nhd->nh", query, key) / math.sqrt(8)
    assert isinstance(mixer.side, torch.nn.Linear)
    found = mixer.side(hidden)[:, :4]
    torch.testing.assert_close(found.softmax(0), scores.softmax(0))


@pytest.mark.parametrize("layers", [[], [3], [1, 0], [0, 0], [-1]])
def test_layers_that_are_not_there_are_refused(teacher: EmbeddingModel, layers: list[int]) -> None:
    with pytest.raises(ConfigError, match="layers must ascend from 0 to at most 2, got"):
        make_student(teacher, layers)


def test_an_encoder_without_softmax_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="only softmax encoders are converted, this has the mixer osa"
    ):
        student_config(EncoderConfig(vocab_size=5), [0])


def test_a_head_stays() -> None:
    head = HeadConfig(kind="classifier", labels=("relevance",))
    config = EncoderConfig(vocab_size=5, token_types=2, mixer="softmax", head=head)
    assert student_config(config, [0]).head == head
    assert student_config(config, [0]).token_types == 2


def test_positions_beyond_the_teachers_share_a_row(teacher: EmbeddingModel) -> None:
    student = make_student(teacher, [0], 2000)
    config = student.config
    assert (config.max_seq_len, config.position_rows) == (2000, 513)
    ids = [2000 + n % 900 for n in range(1500)]
    with torch.no_grad():
        states = student.encoder.begin(torch.tensor([ids]), torch.arange(1500)[None])[0]
        same = student.encoder.begin(torch.tensor([[2000 + 600 % 900]]), torch.tensor([[1999]]))
        own = teacher.encoder.begin(torch.tensor([ids[:512]]), torch.arange(512)[None])[0]
    torch.testing.assert_close(states[:512], own)
    torch.testing.assert_close(states[600], same[0, 0])
    assert student.embed_ids([ids]).embeddings.isfinite().all()


def test_position_rows_belong_to_learned_positions() -> None:
    with pytest.raises(ConfigError, match="position_rows are those of learned positions"):
        EncoderConfig(vocab_size=5, position_rows=4)
