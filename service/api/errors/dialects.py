"""Which dialect answers the errors of a path: one entry for each protocol."""

from __future__ import annotations

from osa.service.api.cohere.errors import COHERE
from osa.service.api.errors.replies import Dialect, ErrorReply
from osa.service.api.kserve.errors import KSERVE
from osa.service.api.openai.errors import OPENAI
from osa.service.api.tei.errors import NATIVE

DIALECTS = (COHERE, OPENAI, KSERVE, NATIVE)
"""The first that speaks a path answers; the last speaks every path."""


def dialect_of(path: str) -> Dialect:
    """The dialect of a path."""
    return next((dialect for dialect in DIALECTS if dialect.speaks(path)), NATIVE)


def reply_for(error: Exception, path: str) -> ErrorReply:
    """The answer to an error of a request to ``path``."""
    return dialect_of(path).reply(error)


def routing_error(status: int, path: str, allowed: str | None) -> ErrorReply:
    """The answer to a request that no route fits; see ``Dialect.routing_error``."""
    return dialect_of(path).routing_error(status, allowed)
