"""Where a long text may be cut so that its pieces have exactly the tokens of the whole.

A tokenizer holds hundreds of bytes for every token of what it is given at once. A text far over the
length limit is therefore tokenised in pieces. Where a cut changes nothing depends on the tokenizer;
two pipelines are known, and a text of any other is tokenised whole:

- BERT's (``BertNormalizer``, ``BertPreTokenizer``, ``WordPiece``): white space and punctuation
  always stand alone, ideographs where ``handle_chinese_chars`` says so.
- byte-level BPE with GPT-2's pattern: a word begins at a single space or line end, and punctuation
  begins behind a letter, if the normal form of that letter ends in one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from unicodedata import normalize, ucd_3_2_0

from tokenizers import Tokenizer

PIECE = 4096
"""Characters of a piece, more only where a text has no place to be cut."""
WINDOW = 1024
"""Characters before the end of a piece in which a place is looked for first."""
SPACES = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What every version of Unicode calls white space, and no tokenizer removes as a control."""
PUNCTUATION = (
    r"!-/:-@\[-`{-~\u2010-\u2027\u3001-\u3003\uff01-\uff03\uff05-\uff0a\uff0c-\uff0f\uff1a\uff1b"
    r"\uff1f"
)
IDEOGRAPHS = r"\u4e00-\u9fa5"
BLANK = re.compile(f"[{SPACES}]")
SEPARATE = re.compile(f"[{SPACES}{PUNCTUATION}]")
ALONE = re.compile(f"[{SPACES}{PUNCTUATION}{IDEOGRAPHS}]")
MARKS = r",.!?;:\u3001\u3002\uff0c\uff01\uff1f\uff1b"
WORD = re.compile(rf"(?<=\S)(?=[ \n]\S)|(?<=[^\W_])(?=[{MARKS}])")
FRAMES = (None, "TemplateProcessing", "BertProcessing")
"""Post-processors that put special tokens around a text and change nothing else."""
IN_WORDS = re.compile(rf"[ \n{MARKS}]")
SPACE_RUN = re.compile(r"\s*")
Form = Literal["NFC", "NFD"]


class _Added:
    """The tokens that are found in a text before anything else."""

    def __init__(self, contents: Sequence[str], strip: Sequence[str]) -> None:
        """Look for ``contents``; those of ``strip`` take the white space beside them as well."""
        longest_first = sorted(contents, key=len, reverse=True)
        self._any = re.compile("|".join(map(re.escape, longest_first))) if contents else None
        self._reach = max(map(len, contents), default=1) - 1
        self._strip = tuple(strip)

    def around(self, text: str, place: int) -> tuple[int, int] | None:
        """The token that lies across a place, from its first character to behind its last."""
        if self._any is None:
            return None
        low = max(0, place - self._reach)
        while (found := self._any.search(text, low, place + self._reach)) is not None:
            if found.start() >= place:
                return None
            if found.end() > place:
                return found.span()
            low = found.start() + 1  # another may begin within it
        return None

    @property
    def take_spaces(self) -> bool:
        """Whether there are tokens that take white space."""
        return bool(self._strip)

    def beside(self, text: str, start: int, stop: int) -> bool:
        """Whether a token that takes white space stands before or behind a run of it."""
        return text.startswith(self._strip, stop) or text.endswith(self._strip, 0, start)


class _Spaces(NamedTuple):
    """A run of white space, which may be empty, and whether a token beside it takes it."""

    start: int
    stop: int
    taken: bool


class TextCutter:
    """Cuts texts of one tokenizer."""

    def __init__(self, places: re.Pattern[str], added: _Added, form: Form | None = None) -> None:
        """Cut behind matches of ``places``.

        Args:
            places: Where a cut is exact but for what follows.
            added: Tokens within and beside which nothing is cut.
            form: Into what texts are normalised before their letters are told from marks.
        """
        self._places, self._added, self._form = places, added, form

    @classmethod
    def of(cls, description: Mapping[str, Any], special_as_text: bool = False) -> TextCutter | None:
        """For a tokenizer of this description; None where no cut is known to be exact.

        Args:
            description: As ``describe`` makes it, or a ``tokenizer.json``.
            special_as_text: Whether special tokens in texts are characters.
        """
        added = [token for token in description.get("added_tokens") or () if token["content"]]
        if special_as_text and all(token.get("special") for token in added):
            added = []  # otherwise one that is passed over may still hide another
        if any(token.get("single_word") for token in added):
            return None
        contents = [token["content"] for token in added]
        strip = [
            token
            for token in added
            if (token.get("lstrip") or token.get("rstrip"))
            and not (special_as_text and token.get("special"))
        ]
        normalizer, scheme = (_kind(description, part) for part in ("normalizer", "pre_tokenizer"))
        # what is matched after normalisation cannot be looked for in the text itself
        matched = [token["content"] for token in added if token.get("normalized")]
        if any(
            token["content"] != token["content"].strip()
            or (token.get("normalized") and normalizer is not None)
            for token in strip
        ):
            return None
        found = _Added(contents, [token["content"] for token in strip])
        model = _kind(description, "model")
        if _kind(description, "post_processor") not in FRAMES:
            return None
        if (normalizer, scheme, model) == ("BertNormalizer", "BertPreTokenizer", "WordPiece"):
            if any(map(BLANK.search, matched)):
                return None
            ideographs = description["normalizer"].get("handle_chinese_chars", False)
            return cls(BLANK if matched else ALONE if ideographs else SEPARATE, found)
        if (scheme, model) != ("ByteLevel", "BPE") or normalizer not in (None, "NFC", "NFD"):
            return None
        words = description["pre_tokenizer"]
        if not words.get("use_regex", True) or words.get("add_prefix_space", True):
            return None
        runs = all(not content.strip(" ") or not IN_WORDS.search(content) for content in matched)
        form: Form | None = "NFC" if normalizer == "NFC" else "NFD" if normalizer else None
        return cls(WORD, found, form) if runs and " " not in matched else None

    @staticmethod
    def is_blank(text: str, start: int) -> bool:
        """Whether nothing but white space is known from ``start`` on."""
        run = SPACE_RUN.match(text, start)
        return run is not None and run.end() == len(text)

    def pieces(self, text: str, check: Callable[[], None]) -> Iterator[tuple[int, str]]:
        """Pieces of a text in order, each with the place of its first character.

        Args:
            text: The text.
            check: Called for every ``PIECE`` characters that are looked through.
        """
        search = _Search(text, self._places, self._added, self._form, check)
        start = 0
        while start < len(text):
            stop = search.end(start)
            yield start, text[start:stop]
            start = stop


class _Search:
    """Looks for the places where one text is cut."""

    def __init__(
        self,
        text: str,
        places: re.Pattern[str],
        added: _Added,
        form: Form | None,
        check: Callable[[], None],
    ) -> None:
        self._text, self._places, self._added, self._form = text, places, added, form
        self._check = check
        self._spaces = _Spaces(-1, -1, False)

    def end(self, start: int) -> int:
        """Where the piece that begins at ``start`` ends."""
        text, wanted = self._text, start + PIECE
        if wanted >= len(text):
            return len(text)
        near = [match.end() for match in self._places.finditer(text, wanted - WINDOW, wanted)]
        closed = wanted + 1
        for place in reversed(near):
            if place < closed:
                span = self._closed(place)
                if span is None:
                    return place
                closed = span[0] + 1
        free, asked = start + 1, wanted
        for match in self._places.finditer(text, wanted):
            place = match.end()
            if place >= asked + PIECE:
                self._check()
                asked = place
            if place >= free:
                span = self._closed(place)
                if span is None:
                    return place
                free = span[1]
        return len(text)

    def _closed(self, place: int) -> tuple[int, int] | None:
        """Characters between which no cut is exact; None where one at ``place`` is."""
        if self._joined(place):
            return place - 1, place + 1
        if self._added.take_spaces and (spaces := self._spaces_at(place)).taken:
            return spaces.start - 1, spaces.stop + 1
        return self._added.around(self._text, place)

    def _joined(self, place: int) -> bool:
        """Whether a mark joins what is before it: the normal form of a letter may end in one."""
        if self._places is not WORD or self._text[place] in " \n":
            return False
        before = self._text[place - 1]
        if before.isascii():
            return False
        last = before if self._form is None else normalize(self._form, before)[-1]
        return ucd_3_2_0.category(last)[0] not in "LN"  # of a version that every library knows

    def _spaces_at(self, place: int) -> _Spaces:
        """The white space at a place; asked for in order, so that a long run is read once."""
        text, known = self._text, self._spaces
        if not known.start <= place <= known.stop:
            run = SPACE_RUN.match(text, place)
            start, stop = _first_space(text, place), place if run is None else run.end()
            self._spaces = _Spaces(start, stop, self._added.beside(text, start, stop))
        return self._spaces


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a ``tokenizer.json`` says, without the vocabulary, which is most of it."""
    found: dict[str, Any] = {"model": {"type": type(tokenizer.model).__name__}}
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        value = getattr(tokenizer, part)
        found[part] = None if value is None else json.loads(value.__getstate__())
    names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    tokens = tokenizer.get_added_tokens_decoder().values()
    found["added_tokens"] = [{name: getattr(token, name) for name in names} for token in tokens]
    return found


def _first_space(text: str, place: int) -> int:
    """Where the white space that ends at ``place`` begins."""
    size = 16
    while True:
        low = max(0, place - size)
        kept = low + len(text[low:place].rstrip())
        if kept > low or not low:
            return kept
        size *= 4


def _kind(description: Mapping[str, Any], part: str) -> str | None:
    found = description.get(part)
    return None if found is None else str(found.get("type"))
