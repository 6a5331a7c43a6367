"""Where a long text may be cut so that its pieces have exactly the tokens of the whole.

A tokenizer holds hundreds of bytes for every token of what it is given at once. A text far over the
length limit is therefore tokenised in pieces. Where a cut changes nothing depends on the tokenizer;
two pipelines are known, and a text of any other is tokenised whole:

- BERT's (``BertNormalizer``, ``BertPreTokenizer``, ``WordPiece``): white space, punctuation and
  ideographs always stand alone.
- byte-level BPE with GPT-2's pattern: a word begins at a single space or line end, and punctuation
  begins behind a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

PIECE = 16_384
"""Characters of a piece, more only where a text has no place to be cut."""
WINDOW = 1024
"""Characters before the end of a piece in which a place is looked for first."""
SPACES = " \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What every version of Unicode calls white space, and no tokenizer removes as a control."""
ALONE = re.compile(
    rf"[{SPACES}!-/:-@\[-`{{-~\u2010-\u2027\u3001-\u3003\u4e00-\u9fa5\uff01-\uff03\uff05-\uff0a"
    r"\uff0c-\uff0f\uff1a\uff1b\uff1f]"
)
BLANK = re.compile(f"[{SPACES}]")
MARKS = r",.!?;:\u3001\u3002\uff0c\uff01\uff1f\uff1b"
WORD = re.compile(rf"(?<=\S)(?=[ \n]\S)|(?<=[^\W_])(?=[{MARKS}])")
FRAMES = (None, "TemplateProcessing", "BertProcessing")
"""Post-processors that put special tokens around a text and change nothing else."""
IN_WORDS = re.compile(rf"[ \n{MARKS}]")


class _Added(NamedTuple):
    """A token that is found in the text before anything else."""

    content: str
    strips: bool


class TextCutter:
    """Cuts texts of one tokenizer."""

    def __init__(self, places: re.Pattern[str], added: Sequence[_Added]) -> None:
        """Cut behind matches of ``places``, but not within or beside tokens that were added."""
        self._places, self._added = places, added

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> TextCutter | None:
        """For the tokenizer of a ``tokenizer.json``; None where no cut is known to be exact."""
        added = description.get("added_tokens") or ()
        if any(token.get("single_word") for token in added):
            return None
        found = [
            _Added(token["content"], bool(token.get("lstrip") or token.get("rstrip")))
            for token in added
        ]
        # what is matched after normalisation cannot be looked for in the text itself
        matched = [token["content"] for token in added if token.get("normalized")]
        normalizer, scheme = (_kind(description, part) for part in ("normalizer", "pre_tokenizer"))
        model = _kind(description, "model")
        if _kind(description, "post_processor") not in FRAMES:
            return None
        if (normalizer, scheme, model) == ("BertNormalizer", "BertPreTokenizer", "WordPiece"):
            blank = any(map(BLANK.search, matched))
            return None if blank else cls(BLANK if matched else ALONE, found)
        if (scheme, model) != ("ByteLevel", "BPE") or normalizer not in (None, "NFC", "NFD"):
            return None
        words = description["pre_tokenizer"]
        if not words.get("use_regex", True) or words.get("add_prefix_space", True):
            return None
        runs = all(not content.strip(" ") or not IN_WORDS.search(content) for content in matched)
        return cls(WORD, found) if runs and " " not in matched else None

    def pieces(self, text: str) -> Iterator[tuple[int, str]]:
        """Pieces of a text in order, each with the place of its first character."""
        start = 0
        while start < len(text):
            stop = self._end(text, start)
            yield start, text[start:stop]
            start = stop

    def _end(self, text: str, start: int) -> int:
        """Where the piece that begins at ``start`` ends."""
        wanted = start + PIECE
        if wanted >= len(text):
            return len(text)
        near = [match.end() for match in self._places.finditer(text, wanted - WINDOW, wanted)]
        for place in reversed(near):
            if self._exact(text, place):
                return place
        for match in self._places.finditer(text, wanted):
            if match.end() > start and self._exact(text, match.end()):
                return match.end()
        return len(text)

    def _exact(self, text: str, place: int) -> bool:
        """Whether no added token lies across a place, or takes the white space there."""
        for content, strips in self._added:
            reach = len(content) - 1
            if text.find(content, max(0, place - reach), place + reach) >= 0:
                return False
            if strips:
                reach = WINDOW + len(content)
                behind = text[place : place + reach].lstrip()
                before = text[max(0, place - reach) : place].rstrip()
                if len(behind) < len(content) or len(before) < len(content):
                    return False  # more white space than is looked at
                if behind.startswith(content) or before.endswith(content):
                    return False
        return True


def _kind(description: Mapping[str, Any], part: str) -> str | None:
    found = description.get(part)
    return None if found is None else str(found.get("type"))
