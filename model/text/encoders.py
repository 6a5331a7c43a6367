"""The two ways of reading special tokens in texts: as characters, or as control tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from tokenizers import Tokenizer

from osa.model.text.slices import Check, Direction, Encoded, SlicedEncoder, cut, moved


class TextEncoders:
    """Encodes texts either way, and texts behind prompts, whose special tokens are control tokens.

    Attributes:
        text: Takes special tokens in texts as characters.
    """

    def __init__(self, whole: Tokenizer, as_text: Tokenizer, special_names: Sequence[str]) -> None:
        """Share what a ``TextTokenizer`` has.

        Args:
            whole: With every special token.
            as_text: Takes special tokens in texts as characters; may be the same object.
            special_names: Names of the special tokens.
        """
        self._whole, self._as_text, self._names = whole, as_text, special_names
        self.text = SlicedEncoder(as_text)

    @cached_property
    def _control(self) -> Tokenizer:
        """Reads special tokens in texts as control tokens; made when it is first asked for."""
        if self._whole is not self._as_text:
            return self._whole
        return Tokenizer.from_str(self._whole.to_str())

    @cached_property
    def control(self) -> SlicedEncoder:
        """Takes special tokens in texts as control tokens."""
        return SlicedEncoder(self._control)

    def of(self, parse_special: bool) -> SlicedEncoder:
        """The encoder for which special tokens in texts are control tokens, or the other one."""
        return self.control if parse_special else self.text

    def encode(
        self,
        texts: Sequence[str],
        room: int | None,
        direction: Direction,
        offsets: bool,
        prompt: str,
        parse_special: bool,
        check: Check,
        arrays: bool = False,
    ) -> Iterator[Encoded]:
        """Tokens of every text behind a prompt, in order.

        Args:
            texts: As for ``SlicedEncoder.encode``.
            room: As there.
            direction: As there.
            offsets: As there.
            prompt: Put before every text.
            parse_special: Whether special tokens in texts are control tokens.
            check: As there.
            arrays: As there, for texts without control tokens in a prompt.
        """
        if prompt and not parse_special and self._names_special(prompt):
            return (
                self._encode_apart(prompt, text, room, direction, offsets, check) for text in texts
            )
        encoder = self.of(parse_special)
        return encoder.encode(texts, room, direction, offsets, check, prompt, arrays)

    def encode_prompt(self, prompt: str) -> Encoded:
        """Tokens of a prompt with their characters; its special tokens are control tokens."""
        library = self._control if self._names_special(prompt) else self._as_text
        found = library.encode(prompt, add_special_tokens=False)
        return Encoded(found.ids, len(found.ids), found.offsets)

    def _encode_apart(
        self,
        prompt: str,
        text: str,
        room: int | None,
        direction: Direction,
        offsets: bool,
        check: Check,
    ) -> Encoded:
        """A prompt with control tokens before a text whose special tokens are characters."""
        if not self._names_special(text):
            return next(self.control.encode([text], room, direction, offsets, check, prompt))
        found = next(self.text.encode([text], room, direction, offsets, check))
        head = self.encode_prompt(prompt)
        ids, total = [*head.ids, *found.ids], head.total + found.total
        places = [*head.offsets, *moved(found.offsets, len(prompt))] if offsets else []
        if room is not None:
            ids, places = cut(ids, room, direction), cut(places, room, direction)
        return Encoded(ids, total, places)

    def _names_special(self, text: str) -> bool:
        return any(name in text for name in self._names)
