"""Copies of batches to a device, on a stream of their own beside what it computes.

Source of the rules of memory that is used on two streams: *CUDA semantics* of torch's
documentation, ``Tensor.record_stream``.
"""

from __future__ import annotations

import torch

from osa.model.inference.device_layout import Layout


class Uploads:
    """Sends batches to one device. Used by one thread at a time."""

    def __init__(self, device: torch.device, width: int | None) -> None:
        """Open the stream, where the device has such.

        Args:
            device: Where batches go.
            width: Of features; None for ids.
        """
        self._device, self._width = device, width
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, staged: Layout) -> Layout:
        """A batch on the device; what is launched from now on comes after its copy.

        The host waits for nothing, and the copy for no kernel that was launched before.
        """
        if self._stream is None:
            batch = Layout.empty(staged.shape, self._width, self._device)
            batch.copy_from(staged)
            return batch
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            batch = Layout.empty(staged.shape, self._width, self._device)
            batch.copy_from(staged)
            arrived = self._stream.record_event()
        computing.wait_event(arrived)
        for part in batch.tensors:
            part.record_stream(computing)  # not given to a later copy before it has been read
        return batch
