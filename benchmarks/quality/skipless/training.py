"""Training of one run, and the measurements taken during it."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.quality.skipless.data import Split, Task
from benchmarks.quality.skipless.grid import PROBED_SEED, Recipe, Run
from osa.model import Encoder, EncoderConfig
from osa.model.diagnostics import gradient_norms, jacobian_spectrum, watch_layers
from osa.model.layers.block import FeedForward
from osa.model.layers.initialization import orthonormal
from osa.model.layers.pooling import pool

STATISTICS_SEQUENCES = 64
EVALUATION_BATCH = 500


class Classifier(nn.Module):
    """Encoder, mean pooling, linear head."""

    def __init__(self, config: EncoderConfig, classes: int, generator: torch.Generator) -> None:
        """Create and initialise; the head's weights have standard deviation 1 / sqrt(D)."""
        super().__init__()
        self.encoder = Encoder(config, generator)
        self.head = nn.Linear(config.hidden_size, classes)
        deviation = config.hidden_size**-0.5
        self.head.weight.data.normal_(0.0, deviation, generator=generator)
        self.head.bias.data.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of features [B, N, F] or token ids [B, N]."""
        logits: Tensor = self.head(pool(self.encoder(inputs), "mean", None, None))
        return logits


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate as a share of the full one: linear warm-up, then linear decay to zero."""
    rise = max(1, round(recipe.warmup * recipe.steps))
    if step < rise:
        return (step + 1) / rise
    return (recipe.steps - step) / max(1, recipe.steps - rise)


@torch.no_grad()
def accuracy(model: Classifier, split: Split) -> float:
    """Share of correct predictions."""
    right = 0
    for first in range(0, len(split.labels), EVALUATION_BATCH):
        part = slice(first, first + EVALUATION_BATCH)
        right += int((model(split.inputs[part]).argmax(-1) == split.labels[part]).sum())
    return right / len(split.labels)


def measure_layers(model: Classifier, split: Split) -> dict[str, list[float]]:
    """Effective rank, token cosine and token norm before the first and after every block."""
    with torch.no_grad(), watch_layers(model.encoder) as layers:
        model(split.inputs[:STATISTICS_SEQUENCES])
    names = ("effective_rank", "token_cosine", "token_norm")
    return {name: [rounded(getattr(layer, name)) for layer in layers] for name in names}


def measure_jacobian(model: Classifier, split: Split) -> dict[str, float]:
    """Largest, median and smallest singular value of the Jacobian for one sequence."""
    spectrum = jacobian_spectrum(model.encoder, split.inputs[:1])
    if not bool(torch.isfinite(spectrum).all()):
        return {"largest": math.inf, "median": math.nan, "smallest": math.nan}
    indexes = {"largest": 0, "median": len(spectrum) // 2, "smallest": -1}
    return {name: rounded(float(spectrum[index])) for name, index in indexes.items()}


def orthogonal_start(encoder: Encoder, generator: torch.Generator) -> None:
    """Initialise every feed-forward layer with two independent orthonormal matrices.

    The second is scaled by sqrt(2), since a rectifier halves the mean square.
    """
    for module in encoder.modules():
        if isinstance(module, FeedForward):
            for weight in (module.up.weight, module.down.weight):
                rows, columns = weight.shape
                weight.data.copy_(orthonormal(rows, columns, generator))
            module.down.weight.data.mul_(2**0.5)


class Observer:
    """Measurements during the training of one run."""

    def __init__(self, run: Run, task: Task, recipe: Recipe) -> None:
        """Choose the steps at which the Jacobian is measured; only for one seed of a cell."""
        probed = run.seed == PROBED_SEED
        self.probe_steps = {round(part * recipe.steps) for part in recipe.probes if probed}
        self.sequences = task.validation
        self.curve: dict[str, list[float]] = {
            name: [] for name in ("step", "loss", "first", "last", "total")
        }
        self.window: list[float] = []
        self.jacobian: dict[str, dict[str, float]] = {}
        self.layers: dict[str, dict[str, list[float]]] = {}

    def probe(self, step: int, model: Classifier) -> None:
        """Measure Jacobian and states, if ``step`` is one of the chosen steps."""
        if step in self.probe_steps:
            self.jacobian[str(step)] = measure_jacobian(model, self.sequences)
            self.layers[str(step)] = measure_layers(model, self.sequences)

    def log(self, step: int, norms: list[float], total: float) -> None:
        """Add an entry to the curves: mean loss since the last entry, norms before clipping."""
        mean = sum(self.window) / len(self.window)
        entry = (step, mean, norms[0], norms[-1], total)
        for values, value in zip(self.curve.values(), entry, strict=True):
            values.append(rounded(value))
        self.window = []


def rounded(value: float) -> float:
    """The value to four significant digits, which the results keep."""
    return float(f"{value:.4g}")


def train(run: Run, task: Task, recipe: Recipe) -> dict[str, Any]:
    """Train and measure one run; returns values for one line of JSON.

    A run stops when its loss is not finite; its accuracies are those of its last weights.
    """
    started = time.process_time()
    generator = torch.Generator().manual_seed(run.seed)
    model = Classifier(run.cell.config(task), task.classes, generator)
    if run.cell.start == "orthogonal":
        orthogonal_start(model.encoder, generator)
    angles = [value for name, value in model.named_parameters() if name.endswith("alpha")]
    for angle in angles:
        angle.requires_grad_(run.cell.start != "unmixed")
    optimizer = torch.optim.Adam(model.parameters())
    observer = Observer(run, task, recipe)
    diverged = False
    order = torch.empty(0, dtype=torch.int64)
    for step in range(recipe.steps):
        observer.probe(step, model)
        if len(order) < recipe.batch:
            order = torch.randperm(len(task.train.labels), generator=generator)
        rows, order = order[: recipe.batch], order[recipe.batch :]
        loss = F.cross_entropy(model(task.train.inputs[rows]), task.train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        norms = gradient_norms(model.encoder) if step % recipe.log_every == 0 else []
        total = float(nn.utils.clip_grad_norm_(model.parameters(), recipe.clip))
        observer.window.append(float(loss.detach()))
        if not (math.isfinite(observer.window[-1]) and math.isfinite(total)):
            diverged = True
            break
        if norms:
            observer.log(step, norms, total)
        optimizer.param_groups[0]["lr"] = run.rate * rate_at(step, recipe)
        optimizer.step()
    else:
        observer.probe(recipe.steps, model)
    window = observer.window or observer.curve["loss"][-1:]
    return {
        "validation": accuracy(model, task.validation),
        "test": accuracy(model, task.test),
        "loss": rounded(sum(window) / len(window)),
        "diverged": diverged,
        "curve": observer.curve,
        "jacobian": observer.jacobian,
        "layers": observer.layers,
        "alpha": [rounded(float(value.detach().abs().mean())) for value in angles],
        "cpu_s": rounded(time.process_time() - started),
    }
