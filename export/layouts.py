"""Layouts of a graph's inputs, and how an input or output is described."""

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
        dtype: Element type, as numpy calls it.
        shape: Sizes; a name where a size is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
