"""The engine without a server: CPU time a text on batches of random ids.

    python -m benchmarks.serving.alone --model DIR --length 32 --batch 16 [--set model.dtype=...]

Prints one JSON object. Runs in a process of its own, so that its threads are those of a server.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from osa.service.engines.selection import select_engine
from osa.service.settings import load_settings


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="alone", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--length", type=int, required=True, help="of every text [tokens]")
    parser.add_argument("--batch", type=int, required=True, help="texts at once")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    overrides = dict(setting.split("=", 1) for setting in options.set)
    settings = load_settings({**overrides, "model.path": options.model})
    engine = select_engine(settings.model).engine
    engine.warm_up()
    generator = np.random.default_rng(0)
    size = (options.batch, options.length)
    batches = [generator.integers(1000, 30000, size).tolist() for _ in range(8)]
    for batch in batches[:2]:
        engine.embed(batch)
    texts, cpu, wall = 0, time.process_time(), time.monotonic()
    while time.monotonic() - wall < options.seconds:
        engine.embed(batches[texts // options.batch % len(batches)])
        texts += options.batch
    spent = {"cpu_ms": time.process_time() - cpu, "wall_ms": time.monotonic() - wall}
    print(json.dumps({name: 1000 * value / texts for name, value in spent.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
