"""The documents are true: their code runs, their links lead somewhere, their commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from osa.service.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_of_the_readme_runs(code: str) -> None:
    query, key, value = torch.randn(3, 1, 2, 5, 4)
    names = {"query": query, "key": key, "value": value, "alpha": torch.full((2,), 0.1)}
    exec(code, names)
    result = names.get("vectors", names.get("y"))
    assert result is not None
    assert bool(torch.isfinite(result).all())


def test_osa_commands_of_the_readme_are_understood() -> None:
    commands = re.findall(
        r"\bosa (serve|train|export|verify|inspect|embed|top|config|info)\b",
        "\n".join(blocks("bash")),
    )
    assert {"serve", "train", "export", "verify"} <= set(commands)
    for command in set(commands):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])


def test_the_test_command_is_marked_for_ci() -> None:
    """``.ci/run`` reads the command behind this mark and runs it."""
    text = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"<!-- tests -->\n```bash\n(.*)\n```", text)
    *install, tests = command.split(" && ")
    assert install[-1].endswith("pip install -e '.[dev]'")
    assert tests.endswith("pytest")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_every_file_of_the_map_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folder = ROOT
    for line in text.split("```")[1].splitlines():
        if top := re.match(r"(\w+)/ ", line):
            folder = ROOT / top[1]
        for name in re.findall(r"\b\w+\.py\b|(?<=  )\w+/", line):
            assert (folder / name).exists(), f"{folder.name}/{name}"
