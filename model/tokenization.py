"""Text to token ids, by Hugging Face ``tokenizers``.

Thread-safe: the shared tokenizer does not change after loading; truncation is done per call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tokenizers import Tokenizer

from osa.model.common.model_files import read_file
from osa.model.errors import InputError

Direction = Literal["left", "right"]


class TokenizedText(NamedTuple):
    """The ids of one text.

    Attributes:
        ids: Token ids, special tokens included.
        truncated: Number of tokens that were cut off.
        offsets: Characters (start, stop) of each token, special tokens left out; if requested.
    """

    ids: list[int]
    truncated: int
    offsets: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes:
        id: Its id.
        text: Its characters in the text; its name where it is special.
        special: Whether it was added to the text.
        start: First character in the text; None where special.
        stop: One past its last character; None where special.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TextTokenizer:
    """A frozen ``tokenizers.Tokenizer`` with truncation per call.

    Attributes:
        num_special_tokens: Number of tokens that are added to every text.
        vocab_size: One more than the largest id.
        prefix: Ids of the special tokens before a text.
        suffix: Ids of those after it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap ``tokenizer``; its own truncation and padding are switched off."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.num_special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        frame = tokenizer.post_process(tokenizer.encode("a", add_special_tokens=False), None, True)
        special = [place for place, mark in enumerate(frame.special_tokens_mask) if mark]
        leading = next((i for i, place in enumerate(special) if i != place), len(special))
        self.prefix: list[int] = frame.ids[:leading]
        self.suffix: list[int] = frame.ids[len(frame.ids) - (len(special) - leading) :]
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
        self.vocab_size: int = max(ids, default=-1) + 1

    @classmethod
    def from_file(cls, path: Path) -> TextTokenizer:
        """Load a ``tokenizer.json``.

        Raises:
            InputError: The file is missing or not a tokenizer.
        """
        try:
            return cls.from_json(read_file(path))
        except (OSError, InputError) as error:
            raise InputError(f"{path}: {getattr(error, 'strerror', error)}") from error

    @classmethod
    def from_json(cls, content: bytes) -> TextTokenizer:
        """Parse the content of a ``tokenizer.json``.

        Raises:
            InputError: It is not a tokenizer.
        """
        try:
            return cls(Tokenizer.from_str(content.decode("utf-8")))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"is not a tokenizer: {error}") from error

    def to_json(self) -> str:
        """The tokenizer as ``tokenizer.json`` text."""
        text: str = self._tokenizer.to_str(pretty=True)
        return text

    def encode(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        direction: Direction = "right",
        offsets: bool = False,
    ) -> list[TokenizedText]:
        """Tokenise texts, special tokens included.

        Args:
            texts: Any Unicode text without lone surrogates.
            max_length: Longest result [tokens], special tokens included; None for no limit.
            direction: Which side is cut where a text is longer.
            offsets: Whether to find the characters of each token, which takes longer.

        Raises:
            InputError: A lone surrogate, or a limit that leaves no room for text.
        """
        room = None if max_length is None else max_length - self.num_special_tokens
        if room is not None and room < 1:
            raise InputError(
                f"max_length must leave room beside {self.num_special_tokens} special tokens, "
                f"got {max_length}"
            )
        check_unicode(texts)
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        results = []
        for encoding in encode(list(texts), add_special_tokens=False):
            surplus = 0
            if room is not None and len(encoding) > room:
                surplus = len(encoding) - room
                encoding.truncate(room, direction=direction)
            kept = encoding.offsets if offsets else ()
            complete = self._tokenizer.post_process(encoding, None, True)
            results.append(TokenizedText(complete.ids, surplus, kept))
        return results

    def encode_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        max_length: int | None = None,
        direction: Direction = "right",
        type_stride: int = 0,
    ) -> list[TokenizedText]:
        """Tokenise pairs of texts as one sequence each, special tokens included.

        Args:
            pairs: Any Unicode texts without lone surrogates.
            max_length: Longest result [tokens]; the longer text of a pair is cut first.
            direction: Which side of a text is cut.
            type_stride: Added to an id for each step of its token type; see
                ``EncoderConfig.token_types``.

        Raises:
            InputError: A lone surrogate, or a limit that leaves no room for text.
        """
        specials: int = self._tokenizer.num_special_tokens_to_add(True)
        room = None if max_length is None else max_length - specials
        if room is not None and room < 2:
            raise InputError(
                f"max_length must leave room beside {specials} special tokens, got {max_length}"
            )
        check_unicode([text for pair in pairs for text in pair])
        known = self._encode_once({text for pair in pairs for text in pair}, room, direction)
        frame = self._pair_frame()
        results = []
        for pair in pairs:
            (first, whole), (second, other) = known[pair[0]], known[pair[1]]
            surplus = 0
            if room is not None and whole + other > room:
                surplus = whole + other - room
                left, right = _shares(whole, other, room)
                first, second = _cut(first, left, direction), _cut(second, right, direction)
            ids: list[int] = []
            for place, special, kind in frame:
                part = [special] if place is None else (first, second)[place]
                step = type_stride * kind
                ids += [number + step for number in part] if step else part
            results.append(TokenizedText(ids, surplus))
        return results

    def _encode_once(
        self, texts: Collection[str], room: int | None, direction: Direction
    ) -> dict[str, tuple[list[int], int]]:
        """Ids of each text, at most ``room``, and how many it has: a query is in many pairs."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        found = {}
        for text, encoding in zip(texts, encodings, strict=True):
            ids = encoding.ids
            found[text] = (ids if room is None else _cut(ids, room, direction), len(ids))
        return found

    def _pair_frame(self) -> list[tuple[int | None, int, int]]:
        """What a pair consists of: which text (0, 1) or None, the id of a special token, the type.

        Ids are put together here: the library itself processes every piece that truncation cut off
        one text with every piece of the other.
        """
        one = self._tokenizer.encode("a", add_special_tokens=False)
        one.truncate(1)
        whole = self._tokenizer.post_process(one, one, True)
        frame: list[tuple[int | None, int, int]] = []
        for special, text, number, kind in zip(
            whole.special_tokens_mask, whole.sequence_ids, whole.ids, whole.type_ids, strict=True
        ):  # the library names the second text alone
            frame.append((None if special else int(text == 1), number, kind))
        return frame

    def tokens(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[Token]]:
        """Tokens of texts with their characters; nothing is truncated.

        Raises:
            InputError: A lone surrogate.
        """
        check_unicode(texts)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        found = []
        for text, encoding in zip(texts, encodings, strict=True):
            row = [
                Token(number, text[start:stop], False, start, stop)
                for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
            ]
            if add_special_tokens:
                before, after = map(self._specials, (self.prefix, self.suffix))
                row = [*before, *row, *after]
            found.append(row)
        return found

    def _specials(self, ids: Sequence[int]) -> list[Token]:
        return [Token(id, self._tokenizer.id_to_token(id) or "", True, None, None) for id in ids]

    def decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Texts of id sequences."""
        texts: list[str] = self._tokenizer.decode_batch(
            [list(row) for row in rows], skip_special_tokens=skip_special_tokens
        )
        return texts

    def encode_parts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts without special tokens, for parts of a longer text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Characters (start, stop) of every token of every text, without special tokens."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    def id_of(self, token: str) -> int | None:
        """Id of a token by its name, or None."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number


def _cut(ids: list[int], length: int, direction: Direction) -> list[int]:
    """The first ``length`` ids, or the last ones where the left side is cut."""
    if len(ids) <= length:
        return ids
    return ids[:length] if direction == "right" else ids[len(ids) - length :]


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of two texts that fit ``room`` together, the longer one cut first [tokens].

    Where both are longer than half of the room, the second gets the odd token, or the longer one:
    as ``longest_first`` of Hugging Face's tokenizers.
    """
    short, long = sorted((first, second))
    short, long = (short, room - short) if short <= room // 2 else (room // 2, room - room // 2)
    return (short, long) if first <= second else (long, short)


def id_out_of_range(ids: Sequence[int], vocab_size: int) -> int | None:
    """An id that is not in 0 to ``vocab_size - 1``; None where all are, or there are none."""
    low, high = min(ids, default=0), max(ids, default=0)
    if low < 0:
        return low
    return high if high >= vocab_size else None


def check_unicode(texts: Sequence[str]) -> None:
    """Refuse texts that are not valid Unicode.

    Raises:
        InputError: The index of the text that has a lone surrogate.
    """
    for index, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"text {index} holds a lone surrogate, which is not valid Unicode"
            ) from None
