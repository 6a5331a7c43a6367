"""The Python of the image: Debian 12's, which is older than that of most machines of developers."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

NEWEST = (3, 11, 3)
"""From the next release on, 3.11 has what later ones have, such as tarfile's filters."""
PLACES = ("/usr/bin/python3.11", "/usr/bin/python3", "/usr/local/bin/python3.11")


@functools.cache
def image_python() -> str | None:
    """An interpreter of 3.11.0 to 3.11.3; None on a machine without one."""
    code = "import sys; print(*sys.version_info[:3])"
    for place in (sys.executable, *PLACES):
        if Path(place).is_file():
            done = subprocess.run([place, "-c", code], capture_output=True, text=True)
            if (3, 11, 0) <= tuple(map(int, done.stdout.split())) <= NEWEST:
                return place
    return None
