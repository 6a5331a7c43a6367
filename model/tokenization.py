"""Text to token ids, by Hugging Face ``tokenizers``.

Special tokens that stand in a text are characters, unless a caller asks for control tokens. Thread-
safe: the shared tokenizer does not change after loading; truncation is done per call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from osa.model.common.model_files import read_file
from osa.model.errors import InputError
from osa.model.text.checks import check_unicode
from osa.model.text.checks import id_out_of_range as id_out_of_range
from osa.model.text.encoders import TextEncoders
from osa.model.text.pairs import join_pairs, pair_frame
from osa.model.text.results import Token as Token
from osa.model.text.results import TokenizedText as TokenizedText
from osa.model.text.results import as_list, count_of, joined
from osa.model.text.slices import Check, Encoded, go_on
from osa.model.text.slices import Direction as Direction
from osa.model.text.special import (
    reserved_ids,
    special_names,
    taking_special_as_text,
    unknown_id,
)
from osa.model.text.tokenizer_size import check_content


class TextTokenizer:
    """A frozen ``tokenizers.Tokenizer`` with truncation per call.

    Attributes:
        num_special_tokens: Number of tokens that are added to every text.
        vocab_size: One more than the largest id.
        prefix: Ids of the special tokens before a text.
        suffix: Ids of those after it.
        unknown_id: Id of what the vocabulary does not have; None where it has everything.
        special_names: Names of the special tokens.
        reserved_ids: Ids that the vocabulary keeps free, and that no text has.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap ``tokenizer``; its own truncation and padding are switched off."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.num_special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        frame = tokenizer.post_process(tokenizer.encode("a", add_special_tokens=False), None, True)
        special = [place for place, mark in enumerate(frame.special_tokens_mask) if mark]
        leading = next((i for i, place in enumerate(special) if i != place), len(special))
        self.prefix: list[int] = frame.ids[:leading]
        self.suffix: list[int] = frame.ids[len(frame.ids) - (len(special) - leading) :]
        ids = tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size: int = max(ids.values(), default=-1) + 1
        self.unknown_id = unknown_id(tokenizer)
        marks = (*self.prefix, *self.suffix)
        self.special_names = tuple(special_names(tokenizer, marks))
        self._whole = tokenizer
        self._tokenizer = taking_special_as_text(tokenizer, marks, self.unknown_id)
        self._encoders = TextEncoders(tokenizer, self._tokenizer, self.special_names)
        self.reserved_ids = reserved_ids(self._tokenizer, ids)

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
    def from_json(cls, content: bytes, most_ids: int | None = None) -> TextTokenizer:
        """Parse the content of a ``tokenizer.json``.

        Args:
            content: Of the file.
            most_ids: More are refused before it is built, for which all other threads wait.

        Raises:
            InputError: It is not a tokenizer, or larger than is allowed.
        """
        check_content(content, most_ids)
        try:
            return cls(Tokenizer.from_str(content.decode("utf-8")))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(f"is not a tokenizer: {error}") from error

    def to_json(self) -> str:
        """The tokenizer as ``tokenizer.json`` text."""
        text: str = self._whole.to_str(pretty=True)
        return text

    def encode(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        direction: Direction = "right",
        offsets: bool = False,
        prompt: str = "",
        parse_special: bool = False,
    ) -> list[TokenizedText]:
        """All at once; see ``iterate``."""
        return list(self.iterate(texts, max_length, direction, offsets, prompt, parse_special))

    def iterate(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        direction: Direction = "right",
        offsets: bool = False,
        prompt: str = "",
        parse_special: bool = False,
        check: Check = go_on,
        arrays: bool = False,
    ) -> Iterator[TokenizedText]:
        """Tokenise texts, special tokens included, one by one.

        Args:
            texts: Any Unicode text without lone surrogates.
            max_length: Longest result [tokens], special tokens included; None for no limit.
            direction: Which side is cut where a text is longer.
            offsets: Whether to find the characters of each token, which takes longer.
            prompt: Put before every text and never cut; its special tokens are control tokens.
                Characters of tokens are those of prompt and text together.
            parse_special: Whether names of special tokens in texts are control tokens.
            check: Called every ``SLICE`` characters.
            arrays: Give the ids of long texts as arrays, as of ``SlicedEncoder.encode``.

        Raises:
            InputError: A lone surrogate, or a limit that leaves no room for text.
        """
        room = _room(max_length, self.num_special_tokens, 1)
        check_unicode(texts)
        encoded = self._encoders.encode(
            texts, room, direction, offsets, prompt, parse_special, check, arrays
        )
        unknown = -1 if self.unknown_id is None else self.unknown_id
        head: Encoded | None = None
        for found in encoded:
            ids, places, surplus = found.ids, found.offsets, found.total - len(found.ids)
            if surplus and prompt:
                head = head or self._encoders.encode_prompt(prompt)
                if head.total >= len(ids):
                    raise InputError(
                        f"the prompt has {head.total} tokens, which leave no room for text"
                    )
                if direction == "left":
                    ids = joined(head.ids, ids[head.total :])
                    places = [*head.offsets, *places[head.total :]] if offsets else []
            ids = joined(self.prefix, ids, self.suffix)
            yield TokenizedText(ids, surplus, places, count_of(unknown, ids))

    def stream(
        self, texts: Iterable[str], offsets: bool = False, check: Check = go_on
    ) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Tokens of one text that comes in pieces, without special tokens; see ``iterate``.

        Args:
            texts: Pieces that follow each other; they may end anywhere.
            offsets: Whether to find the characters of each token.
            check: As for ``iterate``.

        Raises:
            InputError: A lone surrogate.
        """
        return self._encoders.text.stream(_valid(texts), offsets, check)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of a prompt; its special tokens are control tokens."""
        return as_list(self._encoders.encode_prompt(prompt).ids)

    def count_unknown(self, ids: Sequence[int]) -> int:
        """How many ids stand for what the vocabulary does not have."""
        return 0 if self.unknown_id is None else ids.count(self.unknown_id)

    def encode_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        max_length: int | None = None,
        direction: Direction = "right",
        type_stride: int = 0,
        parse_special: bool = False,
    ) -> list[TokenizedText]:
        """All at once; see ``iterate_pairs``."""
        return list(self.iterate_pairs(pairs, max_length, direction, type_stride, parse_special))

    def iterate_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        max_length: int | None = None,
        direction: Direction = "right",
        type_stride: int = 0,
        parse_special: bool = False,
        check: Check = go_on,
    ) -> Iterator[TokenizedText]:
        """Tokenise pairs of texts as one sequence each, special tokens included, one by one.

        Args:
            pairs: Any Unicode texts without lone surrogates.
            max_length: Longest result [tokens]; the longer text of a pair is cut first.
            direction: Which side of a text is cut.
            type_stride: Added to an id for each step of its token type; see
                ``EncoderConfig.token_types``.
            parse_special: As for ``iterate``.
            check: Called every ``SLICE`` characters, and at every pair.

        Raises:
            InputError: A lone surrogate, or a limit that leaves no room for text.
        """
        room = _room(max_length, self._tokenizer.num_special_tokens_to_add(True), 2)
        check_unicode(text for pair in pairs for text in pair)
        encoder = self._encoders.of(parse_special)
        frame, count = pair_frame(self._tokenizer), self.count_unknown
        yield from join_pairs(encoder, pairs, room, direction, frame, type_stride, count, check)

    def tokens(
        self,
        texts: Sequence[str],
        add_special_tokens: bool = True,
        parse_special: bool = False,
        check: Check = go_on,
    ) -> Iterator[tuple[int, list[Token], bool]]:
        """Tokens of texts with their characters, in parts; nothing is truncated.

        Args:
            texts: The texts.
            add_special_tokens: Whether to add them.
            parse_special: As for ``iterate``.
            check: Called every ``SLICE`` characters.

        Returns:
            Index of a text, its next tokens, and whether they are its last.

        Raises:
            InputError: A lone surrogate.
        """
        check_unicode(texts)
        before, after = map(self._specials, (self.prefix, self.suffix))
        begun = -1
        for index, ids, offsets, last in self._encoders.of(parse_special).parts(texts, check):
            text, row = texts[index], before if add_special_tokens and index > begun else []
            begun = index
            row = [*row] + [
                Token(number, text[start:stop], False, start, stop)
                for number, (start, stop) in zip(ids, offsets, strict=True)
            ]
            yield index, row + after if add_special_tokens and last else row, last

    def _specials(self, ids: Sequence[int]) -> list[Token]:
        return [Token(id, self._whole.id_to_token(id) or "", True, None, None) for id in ids]

    def decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        """Texts of id sequences."""
        texts: list[str] = self._whole.decode_batch(
            [list(row) for row in rows], skip_special_tokens=skip_special_tokens
        )
        return texts

    def encode_parts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts without special tokens, for parts of a longer text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Characters (start, stop) of every token of every text, without special tokens."""
        return [text.offsets for text in self._encoders.text.encode(texts, None, offsets=True)]

    def ends(self, texts: Sequence[str], tokens: int, check: Check) -> Iterator[int | None]:
        """Where the first ``tokens`` tokens of every text end; None where it has no more."""
        for found in self._encoders.text.encode(texts, tokens, offsets=True, check=check):
            yield found.offsets[-1][1] if found.total > tokens else None

    def id_of(self, token: str) -> int | None:
        """Id of a token by its name, or None."""
        number: int | None = self._whole.token_to_id(token)
        return number


def _valid(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        check_unicode([piece])
        yield piece


def _room(max_length: int | None, specials: int, least: int) -> int | None:
    """Tokens that special ones leave to texts, which need ``least``; None for no limit."""
    room = None if max_length is None else max_length - specials
    if room is not None and room < least:
        raise InputError(
            f"max_length must leave room beside {specials} special tokens, got {max_length}"
        )
    return room
