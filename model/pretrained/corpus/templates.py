"""Everyday sentences generated from word lists: captions of scenes, headlines and remarks.

No redistributable package contains sentences such as "A man is playing a guitar.", so they are
generated from written patterns. WordNet extends the word lists by words that are counted in its
sense-tagged texts. The sentences are a function of a seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from osa.model.pretrained.corpus.scenes import (
    EVENTS,
    HEADLINES,
    LISTS,
    PATTERNS,
    SCENES,
    WORDNET_LISTS,
)

Lists = Mapping[str, Sequence[str]]
_SLOT = re.compile(r"\{(\w+)\}")
_VOWEL = re.compile(r"[aeio]|u(?!ni|s[aeiu]|k)")


def article(noun: str) -> str:
    """The noun phrase with "a" or "an"."""
    return f"{'an' if _VOWEL.match(noun) else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a regular noun, or of an irregular one that is listed."""
    head, space, last = noun.rpartition(" ")
    irregular = {"man": "men", "woman": "women", "child": "children", "person": "people"}
    irregular |= {"mouse": "mice", "sheep": "sheep", "fish": "fish", "deer": "deer"}
    irregular |= {"wolf": "wolves", "knife": "knives", "policeman": "policemen", "calf": "calves"}
    irregular |= {"goose": "geese", "ox": "oxen", "potato": "potatoes", "tomato": "tomatoes"}
    irregular |= {"fireman": "firemen", "elderly": "elderly", "police officer": "police officers"}
    if last in irregular:
        ending = irregular[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        ending = last + "es"
    elif re.search(r"[^aeiou]y$", last):
        ending = last[:-1] + "ies"
    else:
        ending = last + "s"
    return head + space + ending


def third_person(verb: str) -> str:
    """Third person singular: the first word is inflected, the rest kept."""
    first, space, rest = verb.partition(" ")
    if first in ("go", "do") or re.search(r"(s|x|z|ch|sh)$", first):
        first += "es"
    elif re.search(r"[^aeiou]y$", first):
        first = first[:-1] + "ies"
    else:
        first += "s"
    return first + space + rest


def progressive(verb: str) -> str:
    """Present participle: the first word is inflected, the rest kept."""
    first, space, rest = verb.partition(" ")
    if first in ("lie", "tie", "die"):
        first = first[:-2] + "y"
    elif re.search(r"[^eoy]e$", first):
        first = first[:-1]
    elif re.search(r"^[^aeiou]*[aeiou][bdglmnprt]$", first):
        first += first[-1]
    return first + "ing" + space + rest


def widened(root: Path) -> dict[str, list[str]]:
    """The word lists of ``scenes``, with WordNet's counted hyponyms of given synsets."""
    lists = {name: list(words) for name, words in LISTS.items()}
    synsets = _nouns(root)
    counted = _counted(root)
    for name, (heads, least) in WORDNET_LISTS.items():
        for head in heads:
            for word in sorted(_below(head, synsets)):
                spaced = word.replace("_", " ")
                if counted.get(word, 0) >= least and spaced not in lists[name]:
                    lists[name].append(spaced)
    return lists


def _nouns(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    """By synset offset: the words whose first sense it is, and the offsets of its hyponyms."""
    folder = root / "usr/share/wordnet"
    first_sense: dict[str, str] = {}
    for line in (folder / "index.noun").read_text(encoding="latin-1").splitlines():
        fields = line.split()
        if not line.startswith("  "):
            first_sense[fields[0]] = fields[-int(fields[2])]
    found = {}
    for line in (folder / "data.noun").read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ", 1)[0].split(" ")
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        words = [word for word in words if first_sense.get(word) == fields[0]]
        below = [fields[i + 1] for i, field in enumerate(fields) if field in ("~", "~i")]
        found[fields[0]] = (words, below)
    return found


def _counted(root: Path) -> dict[str, int]:
    """Number of times that each noun is tagged with its first sense."""
    counts: dict[str, int] = {}
    file = root / "usr/share/wordnet/cntlist.rev"
    for line in file.read_text(encoding="latin-1").splitlines():
        key, sense, count = line.split(" ")
        if "%1:" in key and sense == "1":
            counts[key.split("%")[0]] = int(count)
    return counts


def _below(head: str, synsets: dict[str, tuple[list[str], list[str]]]) -> set[str]:
    """Hyponyms of the first sense of ``head``, without names."""
    start = next(offset for offset, (words, _) in synsets.items() if head in words)
    waiting, found = [start], set[str]()
    while waiting:
        words, below = synsets[waiting.pop()]
        found |= {word for word in words[:1] if word.islower() and "." not in word}
        waiting += below
    return found - {head}


def composed(root: Path, count: int, seed: int = 0) -> Iterator[str]:
    """About ``count`` scenes, and a third as many headlines and remarks; repeats are dropped."""
    generator = random.Random(seed)
    lists: Lists = {**widened(root), **EVENTS}
    seen: set[str] = set()
    for index in range(2 * count):
        sentence = _remark(generator, lists) if index % 4 == 3 else _scene(generator, lists)
        if sentence not in seen:
            seen.add(sentence)
            yield sentence
        if len(seen) == count:
            return


def _scene(generator: random.Random, lists: Lists) -> str:
    kind, verb = generator.choice(SCENES)
    subject = generator.choice(lists[kind])
    verb = _filled(verb, generator, lists)
    words = {
        "Ving": progressive(verb),
        "Vs": third_person(verb),
        "V": verb,
        "Ss": plural(subject),
        "S": subject,
        "N": generator.choice(lists["number"]),
        "J": generator.choice(lists["adjective" if kind == "person" else "coat"]),
        "P": generator.choice(lists["place"]),
    }
    pattern = generator.choice(PATTERNS)
    told = re.sub(r"\b(Ving|Vs|V|Ss|S|N|J|P)\b", lambda match: words[match.group(1)], pattern)
    return _finished(_filled(told, generator, lists))


def _remark(generator: random.Random, lists: Lists) -> str:
    return _finished(_filled(generator.choice(HEADLINES), generator, lists))


def _filled(pattern: str, generator: random.Random, lists: Lists) -> str:
    return _SLOT.sub(lambda match: generator.choice(lists[match.group(1)]), pattern)


def _finished(sentence: str) -> str:
    """The sentence with "an" before vowels, and a capital at the beginning."""
    sentence = re.sub(r"\ba (\w+)", lambda match: article(match.group(1)), sentence)
    return sentence[0].upper() + sentence[1:]
