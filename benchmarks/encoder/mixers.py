"""Cost of every token mixer by length, and of the fast forms of recurrences against their loops.

    python -m benchmarks.encoder.mixers [--repeats 5] [--quick] [--output FILE]

One block of the packaged model's width with each mixer, on one packed sequence, float32, inference;
medians of CPU time of rounds in which all take turns. The second table has the recurrences alone,
both passes of 4096 tokens, by the width of heads: in the CPU kernel, which computes the whole mixer
(gates, unit keys, choices and norms too), by torch in chunks and in a tree, and by torch in a loop.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.common.machine import read_machine
from benchmarks.common.report import progress
from benchmarks.common.tables import table
from benchmarks.common.timing import median_cpu_s
from osa.model import EmbeddingModel, EncoderConfig
from osa.model.functional.delta_rule import Writes, by_chunks, by_steps
from osa.model.functional.sparse_scan import Steps, scan_states, step_by_step
from osa.model.functional.varlen import cu_seqlens_of
from osa.model.inference.precision import use_dtype
from osa.model.kernels import native
from osa.model.layers.mixers import MIXERS, TokenContext, make_mixer

LENGTHS = (512, 4096, 32768)
QUICK_LENGTHS = (512, 4096)
QUADRATIC = ("softmax",)
"""Mixers that are left out beyond ``QUADRATIC_LIMIT`` tokens."""
QUADRATIC_LIMIT = 4096
HEADS = ((2, 8), (4, 16), (12, 32))
"""Number and width of heads of the recurrences."""
RECURRENCES = ("prism", "pdssm")
TOKENS = 4096


def one_block(mixer: str) -> EmbeddingModel:
    """A model of one block, as it is served on a CPU."""
    config = EncoderConfig(vocab_size=1000, num_layers=1, mixer=mixer)
    return use_dtype(EmbeddingModel(config).eval(), "float32")


@torch.inference_mode()
def embed(model: EmbeddingModel, length: int) -> None:
    """Embed one sequence of random tokens."""
    model(torch.randint(1000, (1, length)), cu_seqlens=cu_seqlens_of([length]))


def measure_mixers(lengths: Sequence[int], repeats: int) -> dict[str, dict[int, float]]:
    """Median CPU time per token [s], by mixer and length."""
    models = {name: one_block(name) for name in MIXERS}
    runs = {
        (name, length): functools.partial(embed, models[name], length)
        for length in lengths
        for name in MIXERS
        if name not in QUADRATIC or length <= QUADRATIC_LIMIT
    }
    times: dict[str, dict[int, float]] = {name: {} for name in MIXERS}
    for (name, length), seconds in median_cpu_s(runs, repeats, progress).items():
        times[name][length] = seconds / length
    return times


def whole_mixer(name: str, heads: int, width: int) -> Callable[[], object]:
    """A mixer on one packed sequence of random states, by the CPU kernel."""
    config = EncoderConfig(
        vocab_size=5, hidden_size=heads * width, num_heads=heads, mixer=name, num_layers=1
    )
    mixer = make_mixer(config)
    widths = [width] * mixer.parts + [mixer.scalars] * bool(mixer.scalars)
    states = tuple(torch.randn(1, TOKENS, heads, size).transpose(1, 2) for size in widths)
    context = TokenContext(None, cu_seqlens_of([TOKENS]), None)
    return torch.inference_mode()(functools.partial(mixer.mix_states, states, context))


def recurrences(heads: int, width: int) -> dict[str, Callable[[], object]]:
    """All forms; those in torch on the same operands."""
    shape = (2, heads, TOKENS)  # both passes
    keys = F.normalize(torch.randn(2, *shape, width), dim=-1)
    values, decay = torch.randn(2, *shape, width), -0.2 * torch.rand(shape)
    writes = Writes(torch.randn(*shape, width), keys, values, torch.rand(2, *shape), decay)
    size, angle = 0.95 * torch.rand(*shape, width), 2 * math.pi * torch.rand(*shape, width)
    index = torch.randint(width, (*shape, width))
    steps = Steps(index, size * angle.cos(), size * angle.sin(), values[0], values[1])
    return {
        **{f"{name} kernel": whole_mixer(name, heads, width) for name in RECURRENCES},
        "prism": torch.inference_mode()(functools.partial(by_chunks, writes)),
        "prism loop": torch.inference_mode()(functools.partial(by_steps, writes)),
        "pdssm": torch.inference_mode()(functools.partial(scan_states, steps)),
        "pdssm loop": torch.inference_mode()(functools.partial(step_by_step, steps)),
    }


def measure_recurrences(repeats: int) -> dict[str, float]:
    """Median CPU time [s] by ``NAME HxD``."""
    runs = {
        f"{name} {heads}x{width}": run
        for heads, width in HEADS
        for name, run in recurrences(heads, width).items()
    }
    return dict(median_cpu_s(runs, repeats, progress))


def render(times: dict[str, dict[int, float]], loops: dict[str, float]) -> str:
    """Both tables in Markdown."""
    lengths = sorted(next(iter(times.values())))
    rows = []
    for name, own in times.items():
        cells = [f"{own[length] * 1e6:.1f}" if length in own else "" for length in lengths]
        growth = own[lengths[-1]] / own[4096] if lengths[-1] in own else None
        rows.append([name, *cells, "" if growth is None else f"{growth:.2f}"])
    first = table(
        ["mixer", *(f"{length} tokens [us/token]" for length in lengths),
         f"{lengths[-1]} over 4096"],
        rows,
    )  # fmt: skip
    ratios = []
    for name in RECURRENCES:
        for size in (f"{heads}x{width}" for heads, width in HEADS):
            names = (f"{name} kernel {size}", f"{name} {size}", f"{name} loop {size}")
            kernel, fast, slow = (loops[form] for form in names)
            cells = [f"{kernel * 1e3:.1f}", f"{fast * 1e3:.1f}", f"{slow * 1e3:.0f}"]
            ratios.append([name, size, *cells, f"{slow / kernel:.0f}", f"{slow / fast:.1f}"])
    second = table(
        ["recurrence", "heads", "kernel [ms]", "torch [ms]", "loop [ms]", "loop / kernel",
         "loop / torch"],
        ratios,
    )  # fmt: skip
    return f"{first}\n\n{second}"


def main() -> int:
    """Measure and print the tables; returns the exit code."""
    parser = argparse.ArgumentParser(prog="mixers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, help="default 5 (quick: 3)")
    parser.add_argument("--quick", action="store_true", help="lengths up to 4096, 3 rounds")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file to write")
    options = parser.parse_args()
    machine = read_machine("cpu")
    repeats = options.repeats or (3 if options.quick else 5)
    times = measure_mixers(QUICK_LENGTHS if options.quick else LENGTHS, repeats)
    loops = measure_recurrences(repeats)
    kernel = "none" if isinstance(native.library(), str) else native.instruction_set()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, kernel {kernel}")
    print(render(times, loops))
    if options.output is not None:
        record = {"machine": machine, "seconds_per_token": times, "recurrences_s": loops}
        options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
