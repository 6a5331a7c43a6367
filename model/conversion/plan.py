"""How many updates the stages of a conversion have, and which of them there are."""

from __future__ import annotations

from dataclasses import dataclass

from osa.model.config import EncoderConfig
from osa.model.conversion.request import Request
from osa.model.conversion.texts.pieces import TrainingTexts
from osa.model.errors import ConfigError

STAGES = ("matching attention", "matching vectors", "matching long texts")
SHARES, LONG_SHARES = (0.6, 0.4, 0.0), (0.5, 0.3, 0.2)
"""Of the time of a conversion, without and with long texts."""


@dataclass
class Plan:
    """How many updates the stages have.

    Attributes:
        asked: By the command, in its words.
        steps: Of the stages; None while it is not known.
        stage: The one at work.
    """

    asked: str
    steps: list[int | None]
    stage: int = 0


def shares_of(student: EncoderConfig, texts: TrainingTexts) -> tuple[float, ...]:
    """Shares of the stages in the time."""
    return SHARES if _missing(student, texts) else LONG_SHARES


def make_plan(request: Request, student: EncoderConfig, texts: TrainingTexts) -> Plan:
    """The plan of a request.

    Args:
        request: Of the command.
        student: What learns.
        texts: To learn on.

    Raises:
        ConfigError: Updates on long texts are asked for, and cannot be.
    """
    asked = f"--minutes {request.minutes:g}"
    if request.steps is not None:
        asked = "--steps " + ",".join(map(str, request.steps))
    plan = Plan(asked, list(request.steps) if request.steps else [None, None, None])
    missing = _missing(student, texts)
    if missing and plan.steps[2]:
        raise ConfigError(f"--steps asks for {plan.steps[2]} updates on long texts, but {missing}")
    if missing:
        plan.steps[2] = 0
    return plan


def _missing(student: EncoderConfig, texts: TrainingTexts) -> str:
    """Why there is nothing to learn on long texts; empty where there is."""
    if student.head is not None:
        return f"a {student.task} has no vectors of the parts of a text"
    if not len(texts.long):
        return f"no text has more than {texts.longest} tokens, or --max-length allows no more"
    if student.pooling != "mean":
        return f"with {student.pooling} pooling the parts of a text have no vectors"
    return ""
