"""Inputs longer than a batch: the same vectors, in turns with short ones, given up at once."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from osa.model import ConfigError, EmbeddingModel
from osa.model.streaming.spill import SpillFile
from osa.service.batching.document_run import DocumentRun
from osa.service.batching.staging import BatchInProgress, StagedBatch
from osa.service.batching.worker import EngineThread
from tests.conftest import WORDS, make_tiny_model, wait_until

Serve = Callable[..., httpx.Client]
WORD = next(word for word in WORDS if word.isalpha())
BOOK, LONGER = 20_000, 400_000
"""Tokens of texts that take a moment, and some seconds or more."""


@pytest.fixture
def states(tmp_path: Path) -> Path:
    """Where states are kept meanwhile."""
    directory = tmp_path / "states"
    directory.mkdir()
    return directory


@pytest.fixture
def start(serve: Serve, tiny_checkpoint: Path, states: Path) -> Serve:
    def start(**settings: Any) -> httpx.Client:
        return serve(
            **{
                "model__path": tiny_checkpoint,
                "model__dtype": "float32",
                "model__max_input_length": 500_000,
                "server__payload_limit": 10_000_000,
                "documents__directory": states,
                **settings,
            }
        )

    return start


def text_of(tokens: int) -> str:
    return " ".join([WORD] * (tokens - 2))


@pytest.fixture
def streams_open(states: Path) -> Callable[[], int]:
    """Files of states that this process, whose thread serves, has open; they have no name."""

    def count() -> int:
        links = []
        for entry in os.scandir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(entry.path))
        return sum(link.startswith(str(states)) for link in links)

    return count


def test_long_texts_have_the_vectors_of_the_model(start: Serve, tiny_checkpoint: Path) -> None:
    client, model = start(), EmbeddingModel.from_pretrained(tiny_checkpoint)
    text = text_of(BOOK)
    answer = client.post("/embed", json={"inputs": [text, WORD, text_of(300)]})
    assert answer.status_code == 200, answer.text
    found = np.array(answer.json())
    for row, one in zip(found, (text, WORD, text_of(300)), strict=True):
        assert np.allclose(row, model.encode_stream(one), atol=1e-5)
    chunks = client.post("/embed_chunks", json={"inputs": text, "chunking": {"size": 5000}}).json()
    spans = [(1 + entry["start"] // (len(WORD) + 1), 0) for entry in chunks[0]]
    spans = [(first, min(first + 5000, BOOK - 1)) for first, _ in spans]
    wanted = dict(model.encode_chunks(text, spans))
    assert len(wanted) == 4
    for place, entry in enumerate(chunks[0]):
        assert np.allclose(entry["embedding"], wanted[place], atol=1e-5)
    assert client.get("/info").json()["max_input_length"] == 500_000


def test_chunks_of_a_document_come_as_a_line(start: Serve, tiny_checkpoint: Path) -> None:
    headers = {"accept": "application/x-ndjson"}
    body = {"inputs": [WORD, text_of(BOOK)], "chunking": {"size": 1000}, "return_text": True}
    client, model = start(), EmbeddingModel.from_pretrained(tiny_checkpoint)
    with client.stream("POST", "/embed_chunks", json=body, headers=headers) as answer:
        lines = [line for line in map(json.loads, answer.iter_lines()) if "progress" not in line]
    assert [line["index"] for line in lines] == [0, 1]
    chunks = lines[1]["chunks"]
    assert "".join(f"{chunk['text']} " for chunk in chunks) == text_of(BOOK) + " "
    spans = [(1 + first, min(1001 + first, BOOK - 1)) for first in range(0, BOOK - 2, 1000)]
    for place, vector in model.encode_chunks(text_of(BOOK), spans):
        assert np.allclose(chunks[place]["embedding"], vector, atol=1e-5)
    small = start(server__answer_limit=65_536)
    refused = small.post("/embed_chunks", json=body, headers=headers)
    assert refused.status_code == 422
    assert "server.answer_limit" in refused.text


def test_short_inputs_do_not_wait_for_a_book(
    start: Serve, streams_open: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short input waits for the step in work: how many begin after it came needs no clock."""
    client = start()
    answers: list[str] = []
    steps: list[float] = []
    begun_between: list[int] = []
    step, compute = DocumentRun.step, EngineThread._compute

    def count_step(run: DocumentRun) -> Any:
        steps.append(time.monotonic())
        return step(run)

    def count_steps_before(
        thread: EngineThread, batch: BatchInProgress, staged: StagedBatch
    ) -> Any:
        begun_between.append(sum(batch.items[0].arrived < begun for begun in steps))
        return compute(thread, batch, staged)

    monkeypatch.setattr(DocumentRun, "step", count_step)
    monkeypatch.setattr(EngineThread, "_compute", count_steps_before)

    def ask(name: str, text: str) -> None:
        assert client.post("/embed", json={"inputs": text}).status_code == 200
        answers.append(name)

    book = threading.Thread(target=ask, args=("book", text_of(LONGER)))
    book.start()
    wait_until(lambda: streams_open() > 0)
    for place in range(20):
        ask("short", f"{WORD} " * place + WORD)
    book.join()
    assert answers == ["short"] * 20 + ["book"]
    wait_until(lambda: streams_open() == 0)
    assert len(steps) > 100
    assert len(begun_between) == 20
    assert max(begun_between) <= 1


def test_a_disk_that_stands_still_holds_nobody(
    start: Serve, streams_open: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds that no speed of the machine changes: who waits for the disk, and who does not."""
    free, stuck = threading.Event(), threading.Event()
    written = SpillFile.write

    def write(file: SpillFile, *given: Any) -> None:
        stuck.set()
        assert free.wait(300)
        written(file, *given)

    monkeypatch.setattr(SpillFile, "write", write)
    client = start()
    answers: dict[str, httpx.Response] = {}

    def ask(name: str, tokens: int, **headers: str) -> threading.Thread:
        def work() -> None:
            body = {"inputs": text_of(tokens)}
            answers[name] = client.post("/embed", json=body, headers=headers, timeout=300)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    try:
        late = ask("late", BOOK, **{"x-request-timeout-ms": "3000"})
        assert stuck.wait(300)
        for place in range(20):
            assert client.post("/embed", json={"inputs": f"{WORD} " * place + WORD}).is_success
        late.join(300)
        assert answers["late"].status_code == 504, "a deadline needs no disk either"
        book = ask("book", BOOK + 1)
        stuck.clear()
        assert stuck.wait(300)
    finally:
        free.set()
    book.join(300)
    assert answers["book"].status_code == 200
    wait_until(lambda: streams_open() == 0)


def test_streams_tell_of_progress(start: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osa.service.api.streaming.PROGRESS_S", 0.01)
    client = start()
    body = {"inputs": [WORD, text_of(BOOK)]}
    lines = []
    with client.stream(
        "POST", "/embed", json=body, headers={"accept": "application/x-ndjson"}
    ) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    shares = [line["progress"] for line in lines if "progress" in line]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert shares
    assert [line["index"] for line in lines if "embedding" in line] == [0, 1]
    assert "embedding" in lines[-1]


@pytest.mark.parametrize("end", ["client", "deadline"])
def test_unwanted_documents_free_their_disk(
    start: Serve, streams_open: Callable[[], int], end: str
) -> None:
    client = start()
    for less in (1, 2):  # the first is slower than those after it
        began = time.monotonic()
        assert client.post("/embed", json={"inputs": text_of(LONGER - less)}).status_code == 200
        early = 0.4 * (time.monotonic() - began)
    headers = {"x-request-timeout-ms": str(int(1000 * early))} if end == "deadline" else {}
    timeout = httpx.Timeout(300.0, read=early) if end == "client" else 300.0
    body = {"inputs": text_of(LONGER)}
    seen: list[int] = []
    watch = threading.Event()

    def count() -> None:
        while not watch.is_set():
            seen.append(streams_open())
            time.sleep(0.01)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        answer = client.post("/embed", json=body, headers=headers, timeout=timeout)
        assert end == "deadline"
        assert answer.status_code == 504
    except httpx.ReadTimeout:
        assert end == "client"
    gone = time.monotonic()
    watch.set()
    counting.join()
    wait_until(lambda: streams_open() == 0)
    assert time.monotonic() - gone < 1.0
    assert max(seen) == 2
    assert client.post("/embed", json={"inputs": WORD}).status_code == 200


def test_documents_are_bounded(start: Serve) -> None:
    client = start(documents__max_tokens=BOOK + 10)
    too_many = client.post("/embed", json={"inputs": [text_of(BOOK), text_of(300)]})
    assert too_many.status_code == 413
    assert "documents.max_tokens" in too_many.text
    tokens = client.post("/embed_all", json={"inputs": text_of(300), "truncate": False})
    assert tokens.status_code == 422
    assert "at most 256" in tokens.text


def test_a_full_disk_fails_the_input_alone(start: Serve, tmp_path: Path) -> None:
    client = start(documents__directory=tmp_path / "missing")
    answer = client.post("/embed", json={"inputs": text_of(300)})
    assert answer.status_code == 500
    assert "cannot hold a long text" in answer.text
    assert client.post("/embed", json={"inputs": WORD}).status_code == 200


def test_models_that_cannot_take_chunks_are_refused_by_name(serve: Serve, tmp_path: Path) -> None:
    make_tiny_model(mixer="softmax").save_pretrained(tmp_path / "softmax")
    with pytest.raises(ConfigError, match="the softmax mixer in the eager engine"):
        serve(
            model__path=tmp_path / "softmax",
            batching__max_batch_tokens=100,
            model__max_input_length=200,
        )
