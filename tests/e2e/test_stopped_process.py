"""A server that was stopped for a while goes on where it was."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import httpx

from tests.server_process import running_server

TEXTS = [f"{number} a long text of many words " * 150 for number in range(240)]


def test_batches_of_a_process_that_was_stopped_are_no_hung_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    statuses = []
    with running_server(log, OSA_ENGINE__HANG_TIMEOUT_S="0.5") as (process, port):

        def post() -> None:
            body = {"inputs": TEXTS, "truncate": True}
            response = httpx.post(f"http://127.0.0.1:{port}/embed", json=body, timeout=120)
            statuses.append(response.status_code)

        sender = threading.Thread(target=post)
        sender.start()
        time.sleep(0.5)  # in the middle of its batches, which take seconds
        assert not statuses, "the work was done before the process could be stopped"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(6)
        os.kill(process.pid, signal.SIGCONT)
        sender.join()
    assert statuses == [200]
    assert "hung" not in log.read_text()
