"""The encoder that a softmax encoder becomes, before it has learnt anything.

All of the teacher stays but what mixes tokens: embeddings, values, output projections, norms,
feed-forward layers, pooling and what follows it, such as a reranker's head. Queries and keys start
from the teacher's, and the query of the pool from the mean query that its biases give:
softmax_j(b_q . k_j).

Shapes: H heads, D hidden, d head width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from osa.model.config import EncoderConfig
from osa.model.embedding_model import EmbeddingModel
from osa.model.errors import ConfigError
from osa.model.layers.block import Block
from osa.model.layers.mixers import OsaMixer

TAPS = 3
"""Neighbours on either side."""
ANGLE = 1.0
"""Of every head at the start."""


def student_config(
    teacher: EncoderConfig, layers: Sequence[int], max_length: int | None = None
) -> EncoderConfig:
    """The configuration of a student that keeps these layers of a teacher.

    Learned positions beyond the teacher's share one row. Biases of scores and windows have no
    place in a sum over all tokens: neighbours stand for them, and rotary positions for ALiBi.

    Raises:
        ConfigError: The teacher is no softmax encoder, or has not these layers.
    """
    if teacher.mixer != "softmax":
        raise ConfigError(
            f"only softmax encoders are converted, this has the mixer {teacher.mixer}"
        )
    wrong = [layer for layer in layers if not 0 <= layer < teacher.num_layers]
    if wrong or not layers or list(layers) != sorted(set(layers)):
        raise ConfigError(
            f"layers must ascend from 0 to at most {teacher.num_layers - 1}, got {list(layers)}"
        )
    longest, rows = max_length or teacher.max_seq_len, None
    if longest > teacher.max_seq_len and teacher.positions == "learned":
        rows = teacher.max_seq_len + 1
    return dataclasses.replace(
        teacher,
        max_seq_len=longest,
        position_rows=rows,
        mixer="osa",
        num_layers=len(layers),
        scale="length",
        center=False,
        qk_norm=True,
        alpha_init=ANGLE,
        osa_pool=True,
        osa_taps=TAPS,
        osa_gate=True,
        positions="rotary" if teacher.positions == "alibi" else teacher.positions,
        position_buckets=0,
        local_window=None,
        global_every=1,
        local_rope_theta=None,
    )


def make_student(
    teacher: EmbeddingModel, layers: Sequence[int], max_length: int | None = None
) -> EmbeddingModel:
    """A student of ``student_config`` with all that it takes over; raises as that.

    The position that all tokens beyond the teacher's share is the mean of its second half.
    """
    student = EmbeddingModel(student_config(teacher.config, layers, max_length), teacher.tokenizer)
    student.prompts, student.default_prompt_name = teacher.prompts, teacher.default_prompt_name
    kept = {layer: place for place, layer in enumerate(layers)}
    weights: dict[str, Tensor] = {}
    for name, tensor in teacher.state_dict().items():
        head, _, rest = name.partition("encoder.blocks.")
        if head or not rest:
            weights[name] = tensor
            continue
        layer, _, rest = rest.partition(".")
        if int(layer) in kept:
            weights[f"encoder.blocks.{kept[int(layer)]}.{rest}"] = tensor
    weights.pop("encoder.score_bias.table", None)
    if student.config.position_rows is not None:
        rows = weights["encoder.positions.weight"]
        beyond = rows[len(rows) // 2 :].mean(0, keepdim=True)
        weights["encoder.positions.weight"] = torch.cat([rows, beyond])
    missing, unexpected = student.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(".mixer." in name for name in missing)
    for block in student.encoder.blocks:
        assert isinstance(block, Block)
        start_mixing(mixer_of(block))
    return student.train()


@torch.no_grad()
def start_mixing(mixer: OsaMixer) -> None:
    """A mean that the teacher's own biases weigh, and the skew part; no values of its own."""
    assert mixer.completion is not None
    assert isinstance(mixer.side, torch.nn.Linear)
    mixer.completion.identity.zero_()
    assert mixer.completion.pool is not None
    mixer.completion.pool.fill_(1.0)
    heads, width = mixer.num_heads, mixer.head_dim
    if mixer.qkv.bias is None:
        return
    hidden = mixer.qkv.in_features
    mean_query = mixer.qkv.bias[:hidden].view(heads, width)
    key = mixer.qkv.weight[hidden : 2 * hidden].view(heads, width, hidden)
    mixer.side.weight[:heads] = torch.einsum("hd,hdk->hk", mean_query, key) / math.sqrt(width)


def mixer_of(block: Block) -> OsaMixer:
    """The mixer of a student's block."""
    assert isinstance(block.mixer, OsaMixer)
    return block.mixer
