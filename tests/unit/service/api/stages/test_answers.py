"""The limit of answers."""

from __future__ import annotations

import pytest

from osa.service.api.stages.answers import ANSWER_LIMIT, AnswerLimit, AnswerRows
from osa.service.errors import AnswerTooLargeError
from osa.service.server_settings import ServerSettings


def test_the_limit_is_named_with_what_helps() -> None:
    limit = AnswerLimit(1000)
    limit.check(1000)
    told = r"would have 1001 bytes or more, at most 1000 .*server.answer_limit.*base64.*x-ndjson"
    with pytest.raises(AnswerTooLargeError, match=told):
        limit.check(1000.6)
    assert ServerSettings().answer_limit == ANSWER_LIMIT


def test_entries_are_counted_as_they_come() -> None:
    rows = AnswerRows(3, AnswerLimit(20))
    rows.put(2, b"123456789")
    rows.count(5)
    rows.put(0, b"12345", counted=True)
    assert rows.json() == b"[12345,[],123456789]"
    with pytest.raises(AnswerTooLargeError):
        rows.put(1, b"12345")
