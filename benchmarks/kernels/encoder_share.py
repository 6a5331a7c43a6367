"""Short texts: how much of the packaged encoder's time the operator takes.

The encoder embeds a packed batch of equal short sequences; interleaved with it, the operator runs
at the encoder's shape once a layer, and so does ``osa_gram`` on the same sequences as a rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.kernels.cases import CPU_TOKENS, SHORT, Case, make_operands
from benchmarks.kernels.contenders import Contender
from benchmarks.kernels.measure import Task, Timing, clock, interleave
from osa.model import EmbeddingModel
from osa.model.functional.varlen import cu_seqlens_of

QUICK_SHORT = (32,)


@dataclass(frozen=True)
class Share:
    """Times of the encoder, and of ``layers`` calls of the operator and of ``osa_gram``."""

    length: int
    tokens: int
    layers: int
    encoder: Timing
    osa: Timing
    gram: Timing


@torch.inference_mode()
def measure_share(
    model: EmbeddingModel, length: int, repeats: int, contenders: Sequence[Contender]
) -> Share:
    """Time one length."""
    config = model.config
    count = CPU_TOKENS // length
    case = Case(
        config.hidden_size // config.num_heads, length, "float32", "packed", heads=config.num_heads
    )
    operands, by_name = make_operands(case), {part.name: part for part in contenders}
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, config.vocab_size or 0, (1, count * length), generator=generator)
    offsets = cu_seqlens_of([length] * count)

    def layers_of(contender: Contender) -> Task:
        def run() -> None:
            for _ in range(config.num_layers):
                contender.compute(operands)

        return Task(run)

    tasks = {
        "encoder": Task(lambda: model(ids, cu_seqlens=offsets)),
        "osa": layers_of(by_name["osa"]),
        "gram": layers_of(by_name["osa_gram"]),
    }
    for task in tasks.values():
        task.run()
    times = interleave(tasks, repeats, clock("cpu"))
    return Share(
        length, case.tokens, config.num_layers, times["encoder"], times["osa"], times["gram"]
    )


def measure_shares(repeats: int, contenders: Sequence[Contender], quick: bool) -> list[Share]:
    """Time the packaged encoder at every short length."""
    model = EmbeddingModel.from_pretrained()
    lengths = QUICK_SHORT if quick else SHORT
    return [measure_share(model, length, repeats, contenders) for length in lengths]
