"""The grid of compared encoders, and the training recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.skipless.data import Task
from osa.model import EncoderConfig

WIDTH, HEADS, FFN = 64, 4, 128
MIXERS: dict[str, dict[str, object]] = {
    "osa-paper": {"mixer": "osa", "scale": "paper"},
    "osa-length": {"mixer": "osa", "scale": "length"},
    "softmax": {"mixer": "softmax"},
}
WIRINGS: dict[str, dict[str, object]] = {
    "skip+norm": {"residual": True, "norm": True, "qk_norm": True},
    "skip": {"residual": True, "norm": False, "qk_norm": False},
    "norm": {"residual": False, "norm": True, "qk_norm": True},
    "neither": {"residual": False, "norm": False, "qk_norm": False},
}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates, ascending: the middle two are tried, then the neighbour of the better one."""
SEEDS = (0, 1, 2)
PROBED_SEED = 1


@dataclass(frozen=True)
class Recipe:
    """Training recipe, the same for all cells.

    Attributes:
        steps: Number of updates.
        batch: Sequences per update.
        warmup: Share of the updates in which the learning rate rises linearly from 0.
        clip: Largest norm of the gradient of all parameters.
        log_every: Updates between two entries of the curves.
        probes: Times at which the Jacobian is measured, as shares of the updates.
    """

    steps: int = 200
    batch: int = 32
    warmup: float = 0.1
    clip: float = 1.0
    log_every: int = 10
    probes: tuple[float, ...] = (0.0, 0.1, 0.4, 1.0)


@dataclass(frozen=True)
class Cell:
    """One encoder of the grid, on one task.

    Attributes:
        task: Key of ``data.TASKS``.
        mixer: Key of ``MIXERS``.
        wiring: Key of ``WIRINGS``: with or without skip connections and norms.
        depth: Number of blocks.
        alpha: Initial value of OSA's angle; softmax has none.
        activation: Activation of the feed-forward layer.
        start: Initialisation. ``mirrored``: mirrored feed-forward matrices; ``orthogonal``: two
            independent orthogonal feed-forward matrices; ``unmixed``: OSA's angle stays zero, so
            that only the pooling combines tokens.
    """

    task: str
    mixer: str
    wiring: str
    depth: int
    alpha: float = 0.02
    activation: str = "gelu"
    start: str = "mirrored"

    @property
    def name(self) -> str:
        """Short unique name, for keys and progress messages."""
        parts = [self.task, self.mixer, self.wiring, str(self.depth)]
        parts += [f"alpha={self.alpha:g}"] if self.alpha != Cell.alpha else []
        parts += [self.activation] if self.activation != Cell.activation else []
        parts += [self.start] if self.start != Cell.start else []
        return "/".join(parts)

    def config(self, task: Task) -> EncoderConfig:
        """Configuration of the encoder for ``task``."""
        values: dict[str, object] = {
            "hidden_size": WIDTH, "num_heads": HEADS, "ffn_size": FFN, "num_layers": self.depth,
            "alpha_init": self.alpha, "activation": self.activation,
            **task.config, **MIXERS[self.mixer], **WIRINGS[self.wiring],
        }  # fmt: skip
        return EncoderConfig.from_dict(values)


@dataclass(frozen=True)
class Run:
    """One training run: a cell with a learning rate and a seed."""

    cell: Cell
    rate: float
    seed: int

    def key(self, recipe: Recipe) -> str:
        """Key of its result."""
        drawn = f"rate={self.rate:g}/seed={self.seed}"
        return f"{self.cell.name}/{drawn}/steps={recipe.steps}/batch={recipe.batch}"


@dataclass(frozen=True)
class Study:
    """A set of cells that are compared.

    Attributes:
        cells: The cells.
        seeds: Seeds of each cell; the learning rate is chosen with the first.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...] = SEEDS


def grid(task: str, depths: Sequence[int], wirings: Sequence[str]) -> tuple[Cell, ...]:
    """Cells of every mixer, wiring and depth, in the order of the depths."""
    return tuple(
        Cell(task, mixer, wiring, depth)
        for depth in depths
        for wiring in wirings
        for mixer in MIXERS
    )


def starts(task: str, depth: int) -> tuple[Cell, ...]:
    """Cells without skips and norms of other angles, activations and initialisations."""
    base = Cell(task, "osa-paper", "neither", depth)
    length, softmax = (dataclasses.replace(base, mixer=name) for name in ("osa-length", "softmax"))
    cells = [dataclasses.replace(base, alpha=0.2), dataclasses.replace(length, alpha=0.2)]
    cells += [dataclasses.replace(cell, start="orthogonal") for cell in (base, softmax)]
    cells += [dataclasses.replace(base, activation="relu"), base, length, softmax]
    cells += [dataclasses.replace(base, alpha=0.0, start="unmixed")]
    return tuple(cells)


DEPTHS = (6, 12, 24, 18)  # the deepest before the last step towards it
UNMIXED_GLOSSES = Cell("glosses", "osa-paper", "neither", 6, alpha=0.0, start="unmixed")
STUDIES = {
    "mnist": Study(grid("mnist", DEPTHS, ("neither", "skip+norm"))),
    "glosses": Study(grid("glosses", (6, 24), ("neither", "skip+norm"))),
    "wirings": Study(grid("mnist", (12,), ("skip", "norm"))),
    "starts": Study((*starts("mnist", 24), UNMIXED_GLOSSES), seeds=(0,)),
}
QUICK_RECIPE = Recipe(steps=20, probes=(0.0, 1.0))
QUICK_STUDIES = {"digits": Study(grid("digits", (2,), ("neither", "skip+norm")), seeds=(0, 1))}
