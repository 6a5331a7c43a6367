"""Share of the packaged encoder's time that the operator takes on short texts.

The encoder embeds a packed batch of short sequences of equal length. Interleaved with it run as
many calls of the operator as the encoder has layers, at the encoder's shape, and likewise calls of
``osa_gram`` on the same sequences as a padded batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.common.timing import Task, Timing, clock, interleave
from benchmarks.kernels.cases import CPU_TOKENS, SHORT, Case, make_operands
from benchmarks.kernels.implementations import Implementation
from osa.model import EmbeddingModel
from osa.model.functional.varlen import cu_seqlens_of

QUICK_SHORT = (32,)


@dataclass(frozen=True)
class Share:
    """Times of the encoder, and of ``layers`` calls of the operator and of ``osa_gram``.

    ``length`` is that of each sequence, ``tokens`` that of the batch.
    """

    length: int
    tokens: int
    layers: int
    encoder: Timing
    osa: Timing
    gram: Timing


@torch.inference_mode()
def measure_share(
    model: EmbeddingModel, length: int, repeats: int, implementations: Sequence[Implementation]
) -> Share:
    """Time the encoder and the operator at one length.

    Args:
        model: The encoder.
        length: Length of each sequence [tokens].
        repeats: Rounds.
        implementations: Includes ``osa`` and ``osa_gram``.
    """
    config = model.config
    count = CPU_TOKENS // length
    case = Case(
        config.hidden_size // config.num_heads, length, "float32", "packed", heads=config.num_heads
    )
    operands, by_name = make_operands(case), {part.name: part for part in implementations}
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, config.vocab_size or 0, (1, count * length), generator=generator)
    offsets = cu_seqlens_of([length] * count)

    def layers_of(implementation: Implementation) -> Task:
        def run() -> None:
            for _ in range(config.num_layers):
                implementation.compute(operands)

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


def measure_shares(
    repeats: int, implementations: Sequence[Implementation], quick: bool
) -> list[Share]:
    """Time the packaged encoder at every short length; ``quick`` measures one."""
    model = EmbeddingModel.from_pretrained()
    lengths = QUICK_SHORT if quick else SHORT
    return [measure_share(model, length, repeats, implementations) for length in lengths]
