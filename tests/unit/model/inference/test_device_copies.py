"""Order of copies and computation on a device, recorded by streams that stand in for torch's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from osa.model.inference.device_copies import Uploads
from osa.model.inference.device_layout import Layout, shape_of

CPU = torch.device("cpu")


class Recorder:
    """Streams and events of a device that does nothing; what happens to them, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        recorder, copy_from = self, Layout.copy_from

        class Stream:
            def __init__(self, device: object = None, name: str = "copies") -> None:
                self.name = name

            def record_event(self) -> str:
                recorder.log.append(f"event on {self.name}")
                return "event"

            def wait_event(self, event: str) -> None:
                recorder.log.append(f"{self.name} waits for the {event}")

        computing = Stream(name="computing")
        self.current = computing

        @contextlib.contextmanager
        def on(stream: Stream) -> Iterator[None]:
            before, self.current = self.current, stream
            yield
            self.current = before

        def copied(into: Layout, other: Layout) -> None:
            recorder.log.append(f"copy on {self.current.name}")
            copy_from(into, other)

        def kept(part: torch.Tensor, stream: Stream) -> None:
            recorder.log.append(f"kept for {stream.name}")

        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "stream", on)
        patch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        patch.setattr(Layout, "copy_from", copied)
        patch.setattr(torch.Tensor, "record_stream", kept)


def staged(*lengths: int) -> Layout:
    layout = Layout.empty(shape_of(lengths, 64), None, CPU)
    layout.fill([list(range(length)) for length in lengths], 1000)
    return layout


def test_a_copy_is_beside_what_is_computed_and_before_what_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(monkeypatch)
    uploads = Uploads(CPU, None)
    uploads._stream = torch.cuda.Stream()  # as of a CUDA device
    batch = staged(3, 70)
    sent = uploads.send(batch)
    assert recorder.log == [
        "copy on copies", "event on copies", "computing waits for the event", "kept for computing",
    ]  # fmt: skip
    assert torch.equal(sent.numbers, batch.numbers)
    assert sent.numbers.data_ptr() != batch.numbers.data_ptr()


def test_cpus_have_no_streams() -> None:
    batch = staged(3)
    assert torch.equal(Uploads(CPU, None).send(batch).numbers, batch.numbers)


@pytest.mark.parametrize("kind", [list, np.array])
def test_ids_are_laid_out_end_to_end(kind: type) -> None:
    layout = Layout.empty(shape_of([3, 2], 64), None, CPU)
    layout.fill([kind([5, 6, 1007]), kind([8, 1009])], 1000)
    assert layout.ids[:6].tolist() == [5, 6, 7, 8, 9, 0]
    assert layout.types[:6].tolist() == [0, 0, 1, 0, 1, 0]
    assert layout.places[:6].tolist() == [0, 1, 2, 0, 1, 0]
    assert layout.offsets.tolist() == [0, 3, 5]
