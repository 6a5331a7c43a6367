"""The steps by name, in order of worth, each with a limit [s] and a function of its own.

A function yields figures: JSON objects with a ``name``. It raises ``CannotError`` where this
machine has not what it needs, and anything else where the project fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

Figures = Iterator[dict[str, Any]]


class CannotError(Exception):
    """This machine cannot run a step; says what it lacks."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: Its name.
        limit_s: Time after which it is ended [s].
        module: Where its function is.
        what: What it shows.
    """

    name: str
    limit_s: int
    module: str
    what: str

    def load(self) -> Callable[[str], Figures]:
        """The function, imported now; takes ``cuda`` or ``cpu``."""
        return cast("Callable[[str], Figures]", getattr(import_module(self.module), self.name))


_HERE = "tests.gpu."
STEPS = (
    Step("environment", 30, _HERE + "correctness", "device, driver, versions"),
    Step("precision", 60, _HERE + "correctness", "vectors against float32 on the CPU, by type"),
    Step("encoder", 90, _HERE + "correctness", "pass, graphs, no waiting, NaN: tests of the pass"),
    Step("operators", 120, _HERE + "correctness", "operator and gradients: tests of the kernels"),
    Step("timing", 100, _HERE + "timing", "batches by events, beside flash attention and BERT"),
    Step("staging", 40, _HERE + "timing", "one batch ahead: time of a batch, and its vectors"),
    Step("launches", 30, _HERE + "timing", "kernels of a batch, and peak memory"),
    Step("invariance", 45, _HERE + "correctness", "bits alone and in any batch"),
    Step("memory", 40, _HERE + "failures", "a batch that does not fit is halved"),
    Step("broken", 45, _HERE + "failures", "a broken context is answered and reported at once"),
    Step("server", 75, _HERE + "serving", "30 s under load: share of the time that is computed"),
    Step("sanitizer", 60, _HERE + "correctness", "compute-sanitizer on a small batch"),
    Step("onnx_kernel", 60, _HERE + "artifacts", "ONNX Runtime's kernel through its C entry"),
    Step("compiled", 90, _HERE + "artifacts", "kernels compiled ahead are found: none at a start"),
    Step("aoti", 90, _HERE + "artifacts", "an AOTInductor package compiled and run"),
)
