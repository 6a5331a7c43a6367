"""Text to token ids, by Hugging Face ``tokenizers``.

Thread-safe: the shared tokenizer does not change after loading; truncation is done per call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from osa.model.errors import InputError
from osa.model.text.pairs import join_pairs, pair_frame
from osa.model.text.slices import Check, SlicedEncoder, go_on
from osa.model.text.slices import Direction as Direction


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


class Token(NamedTuple):
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
        self._encoder = SlicedEncoder(tokenizer)

    @classmethod
    def from_file(cls, path: Path) -> TextTokenizer:
        """Load a ``tokenizer.json``.

        Raises:
            InputError: The file is missing or not a tokenizer.
        """
        try:
            return cls.from_json(path.read_bytes())
        except (OSError, InputError) as error:
            raise InputError(f"{path}: {error}") from error

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
        return list(self.iterate(texts, max_length, direction, offsets))

    def iterate(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        direction: Direction = "right",
        offsets: bool = False,
        check: Check = go_on,
    ) -> Iterator[TokenizedText]:
        """As ``encode``, text by text.

        Args:
            texts: As there.
            max_length: As there.
            direction: As there.
            offsets: As there.
            check: Called every ``SLICE`` characters.

        Raises:
            InputError: As there.
        """
        room = None if max_length is None else max_length - self.num_special_tokens
        if room is not None and room < 1:
            raise InputError(
                f"max_length must leave room beside {self.num_special_tokens} special tokens, "
                f"got {max_length}"
            )
        check_unicode(texts)
        for found in self._encoder.encode(texts, room, direction, offsets, check):
            ids = [*self.prefix, *found.ids, *self.suffix]
            yield TokenizedText(ids, found.total - len(found.ids), found.offsets)

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
        return list(self.iterate_pairs(pairs, max_length, direction, type_stride))

    def iterate_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        max_length: int | None = None,
        direction: Direction = "right",
        type_stride: int = 0,
        check: Check = go_on,
    ) -> Iterator[TokenizedText]:
        """As ``encode_pairs``, pair by pair.

        Args:
            pairs: As there.
            max_length: As there.
            direction: As there.
            type_stride: As there.
            check: Called every ``SLICE`` characters, and at every pair.

        Raises:
            InputError: As there.
        """
        specials: int = self._tokenizer.num_special_tokens_to_add(True)
        room = None if max_length is None else max_length - specials
        if room is not None and room < 2:
            raise InputError(
                f"max_length must leave room beside {specials} special tokens, got {max_length}"
            )
        check_unicode([text for pair in pairs for text in pair])
        frame = pair_frame(self._tokenizer)
        for ids, surplus in join_pairs(
            self._encoder, pairs, room, direction, frame, type_stride, check
        ):
            yield TokenizedText(ids, surplus)

    def tokens(
        self, texts: Sequence[str], add_special_tokens: bool = True, check: Check = go_on
    ) -> Iterator[tuple[int, list[Token], bool]]:
        """Tokens of texts with their characters, in parts; nothing is truncated.

        Args:
            texts: The texts.
            add_special_tokens: Whether to add them.
            check: Called every ``SLICE`` characters.

        Returns:
            Index of a text, its next tokens, and whether they are its last.

        Raises:
            InputError: A lone surrogate.
        """
        check_unicode(texts)
        before, after = map(self._specials, (self.prefix, self.suffix))
        begun = -1
        for index, ids, offsets, last in self._encoder.parts(texts, check):
            text, row = texts[index], before if add_special_tokens and index > begun else []
            begun = index
            row = [*row] + [
                Token(number, text[start:stop], False, start, stop)
                for number, (start, stop) in zip(ids, offsets, strict=True)
            ]
            yield index, row + after if add_special_tokens and last else row, last

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
        return [text.offsets for text in self._encoder.encode(texts, None, offsets=True)]

    def ends(self, texts: Sequence[str], tokens: int, check: Check) -> Iterator[int | None]:
        """Where the first ``tokens`` tokens of every text end; None where it has no more."""
        for found in self._encoder.encode(texts, tokens, offsets=True, check=check):
            yield found.offsets[-1][1] if found.total > tokens else None

    def id_of(self, token: str) -> int | None:
        """Id of a token by its name, or None."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number


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
