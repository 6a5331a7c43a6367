"""``osa top`` beside a real server: one reading, a terminal, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from osa.service.cli import main
from osa.service.server.app import create_service
from tests.conftest import PATIENCE_S, free_port, local_settings, run_service, wait_until
from tests.server_process import INTERRUPTIBLE

OSA = [*INTERRUPTIBLE, "top"]
TEXTS = ["the cat sat on the mat", "a dog", "the mat"]


def test_one_reading_tells_what_a_server_did(
    serve: Callable[..., httpx.Client], tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = serve(model__path=tiny_checkpoint)
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            client.post("/embed", json={"inputs": TEXTS})
            client.post("/embed", json={"inputs": []})

    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert main(["top", str(client.base_url), "--once", "--interval", "1"]) == 0
    finally:
        done.set()
        thread.join()
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is True
    assert found["texts_rate"] == pytest.approx(3 * found["requests_rate"], rel=0.2)
    assert found["tokens_rate"] > found["texts_rate"] > 0
    assert 0 < found["p50_s"] <= found["p95_s"] <= found["p99_s"]
    assert found["batch_texts"] == 3
    assert found["failures"]["empty_input"] > 0
    assert found["info"]["model_id"] == "osa-default"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ftp://127.0.0.1"], 2, "URL must be like http://host:8080, got 'ftp://127.0.0.1'"),
        (["http://"], 2, "URL must be like"),
        (["--interval", "0"], 2, "--interval must be from 0.1 to 3600 s"),
        (["--once"], 1, "no answer from http://127.0.0.1"),
    ],
)
def test_what_cannot_be_watched_is_said(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = [] if arguments[0].startswith(("ftp", "http")) else [f"127.0.0.1:{free_port()}"]
    assert main(["top", *url, *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_server_with_keys_says_what_it_serves_to_those_it_knows(
    serve: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret, entry = make_key("watcher", None, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(model__path=tiny_checkpoint, auth__keys_file=tmp_path / "keys.toml")
    key = tmp_path / "key"
    command = ["top", str(client.base_url), "--once", "--interval", "0.1"]
    assert main(command) == 0
    assert "max_batch_tokens" not in json.loads(capsys.readouterr().out)["info"]
    key.write_text(f"{secret}\n")
    assert main([*command, "--key-file", str(key)]) == 0
    assert json.loads(capsys.readouterr().out)["info"]["max_batch_tokens"] > 0
    for held, message in (
        ("osa-other", "does not know this API key"),
        ("two\nlines", "must hold one API key"),
        ("", "must hold one API key"),
        ("schlüssel", "cannot be read"),
    ):
        key.write_text(held)
        assert main([*command, "--key-file", str(key)]) == 2
        assert message in capsys.readouterr().err


class Terminal:
    """``osa top`` on a terminal of its own."""

    def __init__(self, url: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*OSA, url, "--interval", "0.2"], stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.shown = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 4096):
                self.shown += part
        except OSError:  # the other side is closed
            pass

    def end(self) -> tuple[int, bytes]:
        """Wait for the end; exit code and what was shown."""
        code = self.process.wait(timeout=PATIENCE_S)
        self._thread.join(timeout=PATIENCE_S)
        os.close(self._master)
        return code, self.shown


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_gives_the_terminal_back(
    how: signal.Signals, serve: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    terminal = Terminal(str(serve(model__path=tiny_checkpoint).base_url))
    wait_until(lambda: terminal.shown.count(b"osa top") >= 2)
    terminal.process.send_signal(how)
    code, shown = terminal.end()
    assert code == 0
    assert b"Traceback" not in shown
    assert b"requests/s" in shown
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")


def test_a_server_that_goes_away_ends_it(tiny_checkpoint: Path) -> None:
    settings = local_settings(model__path=tiny_checkpoint)
    with run_service(create_service(settings), settings) as client:
        terminal = Terminal(str(client.base_url))
        wait_until(lambda: b"osa top" in terminal.shown)
    code, shown = terminal.end()
    assert code == 1
    after = shown.partition(b"\x1b[?1049l")[2]
    assert after.startswith(b"osa: ")
    assert b"Traceback" not in shown
