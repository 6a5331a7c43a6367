"""Classification tasks."""

from __future__ import annotations

import torch

from benchmarks.quality.skipless.data import patches


def test_patches_keep_neighbours_together() -> None:
    images = torch.arange(2 * 4 * 4).view(2, 4, 4).float()
    cut = patches(images, 2)
    assert cut.shape == (2, 4, 4)
    back = cut * images.std() + images.mean()
    torch.testing.assert_close(back[0, 1], torch.tensor([2.0, 3.0, 6.0, 7.0]))
