"""Text to token ids, by Hugging Face ``tokenizers``.

Special tokens that stand in a text are characters, unless a caller asks for control tokens. Thread-
safe: the shared tokenizer does not change after loading; truncation is done per call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from osa.model.common.model_files import read_file
from osa.model.errors import InputError
from osa.model.tokens.pairs import Direction as Direction
from osa.model.tokens.pairs import cut_ids, encode_once, pair_frame, shares
from osa.model.tokens.results import Token as Token
from osa.model.tokens.results import TokenizedText as TokenizedText
from osa.model.tokens.special import (
    reserved_ids,
    special_names,
    taking_special_as_text,
    unknown_id,
)


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
        self._tokenizer = taking_special_as_text(tokenizer, marks)
        self.reserved_ids = reserved_ids(self._tokenizer, ids)

    @classmethod
    def from_file(cls, path: Path) -> TextTokenizer:
        """Load a ``tokenizer.json``.

        Raises:
            InputError: The file is missing or not a tokenizer.
        """
        try:
            return cls.from_json(read_file(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except InputError as error:
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
        text: str = self._whole.to_str(pretty=True)
        return text

    @cached_property
    def _control(self) -> Tokenizer:
        """Reads special tokens in texts as control tokens; made when it is first asked for."""
        if self._whole is not self._tokenizer:
            return self._whole
        return Tokenizer.from_str(self._whole.to_str())

    def encode(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        direction: Direction = "right",
        offsets: bool = False,
        prompt: str = "",
        parse_special: bool = False,
    ) -> list[TokenizedText]:
        """Tokenise texts, special tokens included.

        Args:
            texts: Any Unicode text without lone surrogates.
            max_length: Longest result [tokens], special tokens included; None for no limit.
            direction: Which side is cut where a text is longer.
            offsets: Whether to find the characters of each token, which takes longer.
            prompt: Put before every text and never cut; its special tokens are control tokens.
            parse_special: Whether names of special tokens in texts are control tokens.

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
        results, unknown = [], -1 if self.unknown_id is None else self.unknown_id
        for encoding in self._encode_all(texts, offsets, prompt, parse_special):
            surplus, head = 0, None
            if room is not None and len(encoding) > room:
                surplus = len(encoding) - room
                head = self._head(prompt, room) if prompt else None
                if head is None or direction == "right":
                    encoding.truncate(room, direction=direction)
            if head is not None and direction == "left":
                ids = [*self.prefix, *head, *encoding.ids[surplus + len(head) :], *self.suffix]
            else:
                ids = self._tokenizer.post_process(encoding, None, True).ids
            places = encoding.offsets if offsets else ()
            results.append(TokenizedText(ids, surplus, places, ids.count(unknown)))
        return results

    def _head(self, prompt: str, room: int) -> list[int]:
        """Ids of a prompt behind which text remains within ``room`` [tokens]."""
        ids = self.prompt_ids(prompt)
        if len(ids) >= room:
            raise InputError(f"the prompt has {len(ids)} tokens, which leave no room for text")
        return ids

    def _encode_all(
        self, texts: Sequence[str], offsets: bool, prompt: str, parse_special: bool
    ) -> Sequence[Encoding]:
        """Encodings of texts behind a prompt, without special tokens around them."""
        library = self._control if parse_special else self._tokenizer
        if prompt:
            if not parse_special and self._names_special(prompt):
                return [self._encode_apart(prompt, text, offsets) for text in texts]
            texts = [prompt + text for text in texts]
        encode = library.encode_batch if offsets else library.encode_batch_fast
        found: Sequence[Encoding] = encode(list(texts), add_special_tokens=False)
        return found

    def _encode_apart(self, prompt: str, text: str, offsets: bool) -> Encoding:
        """A prompt with control tokens before a text whose special tokens are characters."""
        if not self._names_special(text):
            return self._encode_all([prompt + text], offsets, "", True)[0]
        parts = [self._control.encode(prompt, add_special_tokens=False)]
        parts.append(self._tokenizer.encode(text, add_special_tokens=False))
        return Encoding.merge(parts, True)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of a prompt; its special tokens are control tokens."""
        library = self._control if self._names_special(prompt) else self._tokenizer
        ids: list[int] = library.encode(prompt, add_special_tokens=False).ids
        return ids

    def _names_special(self, text: str) -> bool:
        return any(name in text for name in self.special_names)

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
        """Tokenise pairs of texts as one sequence each, special tokens included.

        Args:
            pairs: Any Unicode texts without lone surrogates.
            max_length: Longest result [tokens]; the longer text of a pair is cut first.
            direction: Which side of a text is cut.
            type_stride: Added to an id for each step of its token type; see
                ``EncoderConfig.token_types``.
            parse_special: As for ``encode``.

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
        library = self._control if parse_special else self._tokenizer
        known = encode_once(library, {text for pair in pairs for text in pair}, room, direction)
        frame = pair_frame(self._tokenizer)
        results = []
        for pair in pairs:
            (first, whole), (second, other) = known[pair[0]], known[pair[1]]
            surplus = 0
            if room is not None and whole + other > room:
                surplus = whole + other - room
                left, right = shares(whole, other, room)
                first, second = cut_ids(first, left, direction), cut_ids(second, right, direction)
            ids: list[int] = []
            for place, special, kind in frame:
                part = [special] if place is None else (first, second)[place]
                step = type_stride * kind
                ids += [number + step for number in part] if step else part
            unknown = self.count_unknown(first) + self.count_unknown(second)
            results.append(TokenizedText(ids, surplus, (), unknown))
        return results

    def tokens(
        self, texts: Sequence[str], add_special_tokens: bool = True, parse_special: bool = False
    ) -> list[list[Token]]:
        """Tokens of texts with their characters; nothing is truncated.

        Raises:
            InputError: A lone surrogate.
        """
        check_unicode(texts)
        found = []
        encodings = self._encode_all(texts, True, "", parse_special)
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
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]

    def id_of(self, token: str) -> int | None:
        """Id of a token by its name, or None."""
        number: int | None = self._whole.token_to_id(token)
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
