"""Layouts of a graph's inputs, and descriptions of inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["packed", "padded"]
LAYOUTS: tuple[Layout, ...] = ("packed", "padded")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: Its name.
        dtype: Element type, a name of numpy.
        shape: Sizes; a name where a size is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
