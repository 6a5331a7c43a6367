"""The README's examples are run, and their output is compared with the README's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```bash\n(curl [^`]*)```\n\n```\n(.*?)\n```", README, flags=re.DOTALL)
TOLERANCE = 0.006
"""Of printed numbers: rounded to two or three digits, of float32 or bfloat16."""


def assert_printed(printed: Any, found: Any) -> None:
    """``printed`` is ``found``, or the beginning of it where an ellipsis stood."""
    if isinstance(printed, list):
        elided = printed[-1:] == ["..."]
        shown = printed[:-1] if elided else printed
        assert len(found) > len(shown) if elided else len(found) == len(shown)
        for left, right in zip(shown, found, strict=False):
            assert_printed(left, right)
    else:
        assert printed == pytest.approx(found, abs=TOLERANCE)


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=["embed", "similarity"])
def test_requests_of_the_readme_are_answered_as_it_says(
    client: httpx.Client, command: str, output: str
) -> None:
    address = str(client.base_url).removeprefix("http://").rstrip("/")
    assert "localhost:8080" in command
    shell = command.replace("localhost:8080", address)
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert_printed(json.loads(output.replace("...", '"..."')), json.loads(done.stdout))


def test_a_wrong_number_would_be_noticed() -> None:
    assert_printed([0.1, "..."], [0.1, 0.2])
    with pytest.raises(AssertionError):
        assert_printed([0.11, "..."], [0.1, 0.2])
    with pytest.raises(AssertionError):
        assert_printed([0.1], [0.1, 0.2])


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_python_of_the_readme_runs(code: str) -> None:
    """In a process that has imported nothing before."""
    before = """
def given():
    import torch
    query, key, value = torch.randn(3, 1, 2, 5, 4)
    return {"query": query, "key": key, "value": value, "alpha": torch.full((2,), 0.1)}

class Names(dict):
    def __missing__(self, name):
        if name not in ("query", "key", "value", "alpha"):
            raise KeyError(name)
        self.update(given())
        return self[name]

names = Names()
"""
    after = """
result = names.get("vectors", names.get("y"))
print(tuple(result.shape), bool(result.isfinite().all()))
"""
    script = f"{before}\nexec({code!r}, {{}}, names)\n{after}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("(2, 384) True", "(1, 2, 5, 4) True")


def test_nothing_waits_to_be_written() -> None:
    assert not re.findall(r"\b[A-Z]{4,}TEXT\b|TODO|FIXME|XXX", README)
