"""How long the examples of a store are, without tokenizing them."""

from __future__ import annotations

import numpy as np

from osa.model.training.data import ExampleStore


def text_lengths(store: ExampleStore) -> np.ndarray:
    """Characters, or rows of features, of each example's first field [n]."""
    values = store.column(store.fields[0].name)
    return np.fromiter((len(value) for value in values), dtype=np.int64, count=len(store))
