"""``osa top`` beside what is no embedding server, or a hostile one: one line, no traceback."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from osa.service.cli import main
from osa.service.top import cli
from osa.service.top.scrape import DURATION, parse
from osa.service.top.snapshot import compare
from osa.service.top.view import render

Answer = Callable[[str], bytes]
METRICS = f'{DURATION}_bucket{{le="+Inf"}} 1\n'.encode()
RESET = b"reset"


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *headers))
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@contextmanager
def answering(answer: Answer, pause_s: float = 0.0) -> Iterator[str]:
    """A server of raw answers by path; with a pause after each byte."""

    def serve(client: socket.socket) -> None:
        with client:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += client.recv(4096)
                content = answer(request.split()[1].decode())
                if content == RESET:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                elif not pause_s:
                    client.sendall(content)
                else:
                    for place in range(len(content)):
                        client.sendall(content[place : place + 1])
                        time.sleep(pause_s)
            except OSError:  # it has heard enough
                pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def pages(metrics: bytes = METRICS, info: bytes = b"{}") -> Answer:
    return lambda path: http({"/metrics": metrics, "/info": info, "/readyz": b"ok"}[path])


STRANGE: dict[str, tuple[bytes, str]] = {
    "a page": (http(b"<html>"), "/metrics is not in Prometheus' text format"),
    "JSON": (http(b"{}"), "/metrics is not in Prometheus' text format"),
    "other metrics": (http(b"up 1\n"), "this is no embedding server"),
    "not found": (http(b"", "404 Not Found"), "/metrics answers 404"),
    "an error": (http(b"", "500 \x1b[31mError"), "/metrics answers 500"),
    "half": (http(METRICS).replace(b"Length: ", b"Length: 9"), "bytes early"),
    "too much": (http(b"a 1\n" * 1_100_000), "is longer than 4194304 bytes"),
    "no HTTP": (b"\x1b]0;title\x07\r\n\r\n", "no answer from"),
    "nothing": (b"", "no answer from"),
    "a reset": (RESET, "no answer from"),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no answer"),
    "a long head": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n", "no answer from"),
    "elsewhere": (http(b"", "302 Found", "Location: ftp://127.0.0.1/"), "answers 302"),
    "in a circle": (http(b"", "302 Found", "Location: /metrics"), "answers 302"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_other_answers_end_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = STRANGE[name]
    with answering(lambda path: content) as url:
        assert main(["top", url, "--once", "--interval", "0.1"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("osa: ")
    assert told.count("\n") == 1
    assert told.rstrip("\n").isprintable()


@pytest.mark.parametrize("info", [b"[1]", b"{", b"\xff", b"[" * 5000 + b"]" * 5000, b'"x"'])
def test_an_info_that_is_no_object_ends_in_one_line(
    info: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(pages(info=info)) as url:
        assert main(["top", url, "--once", "--interval", "0.1"]) == 1
    assert capsys.readouterr().err == "osa: /info is no JSON object: this is no embedding server\n"


def test_strange_values_are_missing_values(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = METRICS + b"".join(
        (
            f'{DURATION}_bucket 1\n{DURATION}_bucket{{le="x"}} 1\n'.encode(),
            f'{DURATION}_bucket{{le="NaN"}} 1\n'.encode(),
            b"osa_tokens_per_second NaN\nosa_in_flight_requests +Inf\nte_queue_size 1e308\n",
            b"te_request_failure 3\nosa_build_info 1\n",
        )
    )
    info = json.dumps({"model_id": ["m"], "max_batch_tokens": "many", "a": 10**400}).encode()
    with answering(pages(metrics, info)) as url:
        assert main(["top", url, "--once", "--interval", "0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine_speed"], found["in_flight"], found["queued_texts"]) == (None, None, None)
    assert found["failures_total"] == {}


@pytest.mark.parametrize("url", ["http://[::1", "h:99999", "h:x", "http://\x1b[31m"])
def test_a_url_that_is_none_is_said_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", url, "--once"]) == 2
    told = capsys.readouterr().err
    assert "URL must be like http://host:8080" in told
    assert told.rstrip("\n").isprintable()


@pytest.mark.parametrize("content", [http(METRICS), b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 90])
def test_a_server_that_is_too_slow_is_given_up(
    content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "TIMEOUT_S", 0.5)
    with answering(lambda path: content, pause_s=0.2) as url:
        assert main(["top", url, "--once", "--interval", "0.1"]) == 1
    assert "it has not ended after" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["302 Found", "500 Error"])
def test_bodies_of_redirects_and_errors_are_not_read(
    status: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may have no end, and nobody wants them."""
    monkeypatch.setattr(cli, "TIMEOUT_S", 2.0)
    with answering(pages()) as there, socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(4):
                try:
                    client, _ = listener.accept()
                except OSError:  # the listener was closed: nobody asks any more
                    return
                path = client.recv(4096).split()[1].decode()
                head = f"HTTP/1.1 {status}\r\nLocation: http://{there}{path}\r\n\r\n"
                client.sendall(head.encode())
                held.append(client)

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        code = main(["top", url, "--once", "--interval", "0.1"])
        for client in held:
            client.close()
    told = capsys.readouterr().err
    assert "has not ended" not in told
    assert code == (0 if status.startswith("302") else 1)


def test_names_of_a_server_are_harmless_on_the_screen() -> None:
    evil = "\x1b[2J\u202e\x9b漢字\n"
    metrics = METRICS.decode() + f'te_request_failure{{err="{evil.rstrip()}"}} 2\n'
    reading = parse(metrics, 0.0)
    snapshot = compare(reading, parse(metrics, 1.0), {"model_id": evil, "kernel": evil * 1000})
    for width in (5, 40, 200):
        lines = render(snapshot, f"http://{evil}", [1.0, -1.0], width, colour=False)
        assert all(line.isprintable() for line in lines)
    assert r"\x1b[2J\u202e\x9b" in render(snapshot, "http://h", [], 200, colour=False)[0]
