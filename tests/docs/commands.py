"""Commands in the documents, as words: in code blocks, indented lines and inline code."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "helm" / "README.md",
        ROOT / "model" / "pretrained" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks" / "reports").glob("*.md"),
    ]
)
BLOCK = re.compile(r"```(?:bash|sh)\n(.*?)```", flags=re.DOTALL)
INDENTED = re.compile(r"^    ((?:python|torchrun|osa|make|helm|docker|curl) .*)$", re.MULTILINE)
INLINE = re.compile(r"`((?:python -m|torchrun|osa|make|curl) [^`]+)`")
ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", flags=re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a document.

    Attributes:
        document: Its path from the project's root.
        words: The program and its arguments.
        environment: Variables set for it alone.
        whole: Whether it is meant to be typed as it is; in a sentence it may be named in part.
    """

    document: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    whole: bool

    def __str__(self) -> str:
        """Name of the test."""
        return f"{self.document}: {' '.join(self.words)[:70]}"


def commands() -> list[Command]:
    """Every command of every document, once."""
    found: dict[Command, None] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        name = str(document.relative_to(ROOT))
        lines = [line for block in BLOCK.findall(text) for line in _lines(block)]
        lines += INDENTED.findall(BLOCK.sub("", text))
        for whole, group in ((True, lines), (False, INLINE.findall(text))):
            for line in group:
                for words in _split(line):
                    found[_command(name, words, whole)] = None
    return list(found)


def _lines(block: str) -> list[str]:
    """Lines of a block; those that a backslash or an open quote continues are one."""
    lines: list[str] = []
    for line in block.splitlines():
        if lines and (lines[-1].endswith("\\") or lines[-1].count("'") % 2):
            lines[-1] = f"{lines[-1].removesuffix(chr(92))}\n{line}"
        else:
            lines.append(line)
    return lines


def _split(line: str) -> list[list[str]]:
    """Words of each command of a line, between ``&&``, ``|`` and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|<>;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    parts: list[list[str]] = [[]]
    skip = False
    for word in lexer:
        if skip:
            skip = False
        elif set(word) <= set("<>"):
            skip = True
        elif set(word) <= set("&|;"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [words for words in parts if words]


def _command(document: str, words: list[str], whole: bool) -> Command:
    environment = []
    while words and (match := ASSIGNMENT.fullmatch(words[0])):
        environment.append((match[1], match[2]))
        words = words[1:]
    program = words[0].rpartition("/")[2] if words else ""
    return Command(document, (program, *words[1:]), tuple(environment), whole)
