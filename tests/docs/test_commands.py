"""Every command of the documents exists, with the options, settings, files and routes it names."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from osa.service.cli import make_parser
from osa.service.commands.settings_options import read_settings
from osa.service.settings import load_settings
from tests.conftest import local_settings
from tests.docs.commands import ROOT, Command, commands

COMMANDS = commands()
TOOLS = {"docker", "gzip", "helm", "kubectl", "python3", "zcat"}
"""Programs of others; of these, files and values of ours are checked."""
SCRIPTS = {path.name for path in (ROOT / "tests/gpu").glob("*.sh")}
"""Of ours, which run without the package installed."""


def of(*programs: str) -> list[Command]:
    found = [command for command in COMMANDS if command.words[0] in programs]
    assert found, programs
    return found


def test_no_program_is_unknown() -> None:
    known = {"", "osa", "python", "torchrun", "make", "curl", "pip", "pytest", *TOOLS, *SCRIPTS}
    assert {command.words[0] for command in COMMANDS} <= known


def osa_arguments() -> Iterator[Command]:
    for command in COMMANDS:
        if command.words[0] == "osa":
            yield command
        elif command.words[0] == "torchrun" and "osa.service.cli" in command.words:
            place = command.words.index("osa.service.cli")
            yield replace(command, words=command.words[place:])


@pytest.mark.parametrize("command", list(osa_arguments()), ids=str)
def test_osa_understands(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["1" if word == "N" else word for word in command.words[1:]]
    try:
        options = make_parser().parse_args(words)
    except SystemExit:
        assert not command.whole
        assert "the following arguments are required" in capsys.readouterr().err
        return
    load_settings(environment=dict(command.environment))
    if hasattr(options, "config") and words[0] != "train" and "SECTION.FIELD=VALUE" not in words:
        read_settings(options)


def source_of(module: str) -> Path:
    """The file that ``python -m`` runs."""
    name = module.removeprefix("osa.").replace(".", "/")
    package = ROOT / name
    return package / "__main__.py" if package.is_dir() else package.with_suffix(".py")


@pytest.mark.parametrize("command", of("python"), ids=str)
def test_modules_and_their_options_exist(command: Command) -> None:
    words = command.words[1:]
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file(), words[0]
        return
    file = source_of(words[1])
    assert file.is_file(), words[1]
    source = "\n".join(part.read_text(encoding="utf-8") for part in file.parent.glob("*.py"))
    for word in words[2:]:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in source, word


@pytest.mark.parametrize("command", of("make"), ids=str)
def test_targets_exist(command: Command) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in command.words[1:]:
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("command", of("pip"), ids=str)
def test_extras_exist(command: Command) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in command.words:
        if match := re.fullmatch(r"(?:\.|osa-encoder)\[(.*)\]", word):
            assert set(match[1].split(",")) <= set(project["optional-dependencies"]), word


@pytest.fixture(scope="module")
def paths() -> list[str]:
    """Paths that the server answers, as patterns."""
    from osa.service.server.app import create_service

    described = create_service(local_settings()).app.openapi()
    return [re.sub(r"{[^}]*}", "[^/]+", path) for path in described["paths"]]


@pytest.mark.parametrize("command", of("curl"), ids=str)
def test_routes_exist(command: Command, paths: list[str]) -> None:
    (address,) = (word for word in command.words[1:] if re.match(r"(http://)?\w+:\d+", word))
    path = urlsplit(address if "://" in address else f"http://{address}").path
    assert any(re.fullmatch(pattern, path) for pattern in paths), path


@pytest.mark.parametrize("command", of("docker", "helm"), ids=str)
def test_files_targets_and_values_exist(command: Command) -> None:
    words = list(command.words)
    for flag, word in itertools.pairwise(words):
        if flag == "-f" and "/" in word:
            assert (ROOT / word).is_file(), word
        if flag == "--target":
            assert f" AS {word}\n" in (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
        if flag == "--set" and words[0] == "helm":
            values = yaml.safe_load((ROOT / "helm" / "values.yaml").read_text(encoding="utf-8"))
            for name in word.partition("=")[0].split("."):
                assert name in values, word
                values = values[name]
    for word in words:
        if word.startswith("./"):
            assert (ROOT / word).is_dir(), word


@pytest.mark.parametrize("line", ["serve --modle DIR", "srve"])
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    """The parser used by the tests above refuses unknown names instead of guessing."""
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args(line.split())
