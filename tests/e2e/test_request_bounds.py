"""One request's time and memory, measured on a real server with its default model.

Inputs have at most 512 tokens, so that tokenising and answers are seen beside the engine.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from osa.model.processor import has_fast_bfloat16
from tests.server_process import running_server

SIZE = 1_990_000
TEXTS = {
    "one-character tokens": "a " * (SIZE // 2),
    "punctuation": "!" * SIZE,
    "brackets": "[" * SIZE,
    "ideographs": "\u6f22" * (SIZE // 3),
    "combining marks": "e\u0301" * (SIZE // 3),
    "spaces": " " * (SIZE - 1) + "a",
    "one word": "a" * SIZE,
    "emoji": "\U0001f600" * (SIZE // 4),
}
ENGINE = (256 if has_fast_bfloat16("cpu") else 320) << 20
"""For the longest input of the packaged model, in bfloat16 or in float32 [bytes]."""
WORDLESS = ("one word", "emoji", "combining marks")
"""Texts without a place to be cut: one word, which the tokenizer must see whole."""


class Server:
    """A running server, and what it uses."""

    def __init__(self, process: psutil.Process, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", **headers}
        return httpx.post(self.url + path, content=raw, headers=headers, timeout=120)

    @contextmanager
    def peak(self) -> Iterator[list[int]]:
        """Within the block the growth of memory is watched [bytes]."""
        before, found, stop = self.process.memory_info().rss, [0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.004):
                found[0] = max(found[0], self.process.memory_info().rss - before)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            thread.join()


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    with running_server(folder / "log", **settings) as found:
        process, port = found
        server = Server(psutil.Process(process.pid), port)
        server.post("/embed_chunks", {"inputs": ["the cat sat " * 400] * 16})  # warm
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("bounds"), OSA_MODEL__MAX_INPUT_LENGTH="512") as found:
        yield found


def tensor(text: str) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def bodies(text: str) -> dict[str, Any]:
    """A body of every route of the default model, with this text."""
    maxsim = {"query": "a", "method": "maxsim"}
    return {
        "/embed": {"inputs": text},
        "/embed_all": {"inputs": text},
        "/embed_chunks": {"inputs": text},
        "/similarity": {"inputs": {"source_sentence": "a", "sentences": [text]}},
        "/tokenize": {"inputs": text},
        "/vertex": {"instances": [{"inputs": text}]},
        "/v1/embeddings": {"input": text},
        "/v2/models/osa-default/infer": tensor(text),
        "/rerank": {**maxsim, "texts": [text]},
        "/v1/rerank": {**maxsim, "documents": [{"text": text}], "max_tokens_per_doc": 9},
    }


@pytest.mark.parametrize("name", TEXTS)
def test_memory_is_a_small_multiple_of_body_and_answer(server: Server, name: str) -> None:
    """It was up to 700 times the body; the routes beside these share their tokenising."""
    every = bodies(TEXTS[name])
    paths = every if name == "punctuation" else ("/embed", "/embed_chunks", "/tokenize")
    for path in paths:
        with server.peak() as grown:
            answer = server.post(path, every[path])
        assert answer.status_code in (200, 422), answer.text[:300]
        if answer.status_code == 422:
            assert "server.answer_limit" in answer.text
        multiple = 120 if name in WORDLESS else 64
        assert grown[0] < multiple * (SIZE + len(answer.content)), (path, grown[0])


def test_the_longest_input_adds_what_the_engine_needs_for_it(tmp_path: Path) -> None:
    """At default settings: 32 768 tokens of the packaged model."""
    with serving(tmp_path) as server:
        for text in (TEXTS["punctuation"], "a " * 33_000):
            with server.peak() as grown:
                assert server.post("/embed", {"inputs": text}).status_code == 200
            assert grown[0] < 64 * len(text) + ENGINE, (len(text), grown[0])


def test_a_deadline_ends_tokenising(server: Server) -> None:
    """The answer comes at the deadline, and the rest of the text is left alone."""
    hasty = {"x-request-timeout-ms": "100"}
    before = server.cpu_s()
    for path in ("/embed", "/embed_chunks", "/tokenize", "/v1/rerank"):
        late = server.post(path, bodies(TEXTS["punctuation"])[path], **hasty)
        assert late.status_code == 504, (path, late.text[:200])
    time.sleep(0.5)
    assert server.cpu_s() - before < 4.0  # whole texts took 2 to 8 s each


def test_a_client_that_leaves_ends_tokenising(server: Server) -> None:
    raw = json.dumps({"inputs": TEXTS["punctuation"]}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
    before = server.cpu_s()
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.port)) as wire:
            wire.sendall(head + raw)
            time.sleep(0.1)
    assert server.post("/embed", {"inputs": "the cat " * 1000}).status_code == 200
    assert server.cpu_s() - before < 8.0  # it took 16 s and more


def test_spans_are_counted_before_they_are_cut(server: Server) -> None:
    chunking = {"strategy": "spans", "spans": [[0, 9]] * 230_000}
    before = server.cpu_s()
    refused = server.post("/embed_chunks", {"inputs": "the cat " * 60_000, "chunking": chunking})
    assert refused.status_code in (413, 422)
    small = {"inputs": "the cat " * 60, "chunking": chunking}
    assert "230000 chunks, at most 4096" in server.post("/embed_chunks", small).text
    many = {"strategy": "spans", "spans": [[0, 9]] * 4096}
    whole = server.post("/embed_chunks", {"inputs": "the cat " * 60_000, "chunking": many})
    assert whole.status_code == 200
    assert server.cpu_s() - before < 8.0  # 300 000 spans took 285 s


def test_the_process_ends_while_threads_still_read(tmp_path: Path) -> None:
    settings = {"OSA_SERVER__PAYLOAD_LIMIT": "40000000", "OSA_SERVER__DRAIN_TIMEOUT_S": "1"}
    with serving(tmp_path, **settings) as server:
        body = {"inputs": "!" * 30_000_000}
        clients = [
            threading.Thread(target=lambda: server.post("/embed", body), daemon=True)
            for _ in range(2)
        ]
        for client in clients:
            client.start()
        before = server.cpu_s()
        while server.cpu_s() - before < 1.0:
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)  # it lasted for the whole of the texts, a minute and more
        for client in clients:
            client.join(10)
