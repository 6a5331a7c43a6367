"""Exit code 0 if the server in this container is ready for requests."""

from __future__ import annotations

import os
import urllib.request


def main() -> int:
    """Ask ``/readyz``; returns the exit code."""
    port = os.environ.get("OSA_SERVER__PORT", "8080")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=4) as answer:
            return int(answer.status != 200)
    except OSError:
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
