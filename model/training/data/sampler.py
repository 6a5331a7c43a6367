"""Shuffled batches: the rows of an update are a function of its number, so runs can resume."""

from __future__ import annotations

import numpy as np

from osa.model.training.data.store import ExampleStore


class BatchSampler:
    """Shuffled batches of rows, with another permutation in every epoch.

    The last incomplete batch of an epoch is left out. Data smaller than a batch are one batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        lengths: np.ndarray | None = None,
        bucket_batches: int = 1,
    ) -> None:
        """Describe the batches.

        Args:
            size: Number of rows.
            batch_size: Rows per batch.
            seed: Seed of the shuffling.
            lengths: Length of each row, in any unit [size]; needed for buckets.
            bucket_batches: Number of batches whose rows are sorted by length together.
        """
        self.size, self.batch_size, self.seed = size, min(batch_size, size), seed
        self.lengths, self.bucket_batches = lengths, bucket_batches
        self.batches_per_epoch = size // self.batch_size
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> np.ndarray:
        """Rows of the batch of update ``step``, counted from 0 [batch_size]."""
        epoch, place = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permutation(epoch)
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def _permutation(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(self.size)[: self.batches_per_epoch * self.batch_size]
        if self.bucket_batches == 1 or self.lengths is None:
            return order
        window = self.bucket_batches * self.batch_size
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches = part.reshape(-1, self.batch_size)
            order[start : start + window] = batches[generator.permutation(len(batches))].ravel()
        return order


def shard(rows: np.ndarray, rank: int, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a batch for one of ``world_size`` processes, and their indices in the batch [n]."""
    places = np.arange(len(rows))[rank::world_size]
    return rows[places], places


def text_lengths(store: ExampleStore) -> np.ndarray:
    """Characters, or rows of features, of each example's first field [n]."""
    values = store.column(store.fields[0].name)
    return np.fromiter((len(value) for value in values), dtype=np.int64, count=len(store))
