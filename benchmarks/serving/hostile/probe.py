"""How long ``/livez`` takes, asked all the time on connections of its own."""

from __future__ import annotations

import http.client
import threading
import time

EVERY_S, PATIENCE_S = 0.25, 60.0


class LivenessProbe(threading.Thread):
    """Asks a server whether it lives, from ``start`` until ``end``.

    Attributes:
        latencies_s: Of every answer, connection included [s].
        failures: Answers other than 200, and none.
    """

    def __init__(self, port: int) -> None:
        """Ask the server on ``port``."""
        super().__init__(daemon=True)
        self._port, self._ended = port, threading.Event()
        self.latencies_s: list[float] = []
        self.failures = 0

    def run(self) -> None:
        """Ask until ``end`` is called."""
        while not self._ended.wait(EVERY_S):
            began = time.monotonic()
            self.failures += not self._lives()
            self.latencies_s.append(time.monotonic() - began)

    def end(self) -> None:
        """Stop asking."""
        self._ended.set()
        self.join()

    def _lives(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
