"""The documents' links have targets; CI finds the README's test command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.commands import DOCUMENTS, ROOT


def test_the_test_command_is_marked_for_ci() -> None:
    """``.ci/run`` reads the command behind this mark and runs it."""
    text = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"<!-- tests -->\n```bash\n(.*)\n```", text)
    *install, tests = command.split(" && ")
    assert install[-1].endswith("pip install -e '.[dev]'")
    assert tests.endswith("pytest")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for link in re.findall(r"\]\(([^):\s]+)\)", text):
        path, _, anchor = link.partition("#")
        assert (document.parent / path).exists(), link
        assert path or anchor in headings, link
