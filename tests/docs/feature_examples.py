"""The functions that docs/features.md shows, run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.docs.commands import ROOT


def documented(name: str) -> Callable[..., Any]:
    """The function of this name."""
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(code, names)
    found: Callable[..., Any] = names[name]
    return found


def documented_config() -> str:
    """The configuration of a training run."""
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    (config,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    return str(config)
