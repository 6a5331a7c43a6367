"""How large an answer may be: checked before it is computed, and while it is written."""

from __future__ import annotations

from typing import NamedTuple

from osa.service.errors import AnswerTooLargeError

ANSWER_LIMIT = 64_000_000
"""Default of ``server.answer_limit`` [bytes]."""
SETTING = "server.answer_limit"


class AnswerLimit(NamedTuple):
    """The limit of an answer, or of a line of a streamed one.

    Attributes:
        most: Its bytes.
    """

    most: int

    def check(self, size: float) -> None:
        """Refuse an answer of about ``size`` bytes.

        Raises:
            AnswerTooLargeError: It is over the limit; says what helps.
        """
        if size > self.most:
            raise AnswerTooLargeError(
                f"the answer would have {size:.0f} bytes or more, at most {self.most} are sent "
                f"({SETTING}): send fewer or shorter inputs, or ask for less where the route can: "
                "encoding_format base64 or bytes, a smaller embedding_type, fewer dimensions, no "
                "return_text, or a stream (Accept: application/x-ndjson)"
            )


class AnswerRows:
    """The entries of an answer, written as they come, one for each input."""

    def __init__(self, inputs: int, limit: AnswerLimit) -> None:
        """Expect this many entries."""
        self.rows = [b"[]"] * inputs
        self._limit, self._size = limit, 0

    def count(self, size: int) -> None:
        """Count bytes of an entry that is not whole yet. One thread at a time.

        Raises:
            AnswerTooLargeError: All entries together are over the limit.
        """
        self._size += size
        self._limit.check(self._size)

    def put(self, place: int, row: bytes, counted: bool = False) -> None:
        """Keep the entry of an input, whose bytes may have been ``counted``.

        Raises:
            AnswerTooLargeError: All entries together are over the limit.
        """
        self.count(0 if counted else len(row) + 1)
        self.rows[place] = row

    def json(self) -> bytes:
        """All entries as a JSON list."""
        return b"[" + b",".join(self.rows) + b"]"
