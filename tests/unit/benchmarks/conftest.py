"""Makes ``benchmarks`` importable: it is run from the repository's root and never installed."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[3])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # last: what is installed comes first
