"""What a request may ask for, whatever its route: number and kind of inputs, prompts."""

from __future__ import annotations

from osa.model.common.widths import width_problem
from osa.model.errors import ConfigError
from osa.service.engines.base import EngineInfo
from osa.service.errors import TooManyTokensError, ValidationError
from osa.service.inference.prompts import Prompts


def check_count(count: int, limit: int, field: str) -> None:
    """Refuse a request with more than ``limit`` inputs.

    Raises:
        ValidationError: Saying how many there are; ``field`` holds them.
    """
    if count > limit:
        raise ValidationError(
            f"{count} inputs in one request, at most {limit} are allowed", param=field
        )


def check_longest(about: EngineInfo, longest: int, batch: int) -> None:
    """Refuse a longest input that neither a batch of ``batch`` tokens holds nor chunks.

    Raises:
        ConfigError: Naming the mixer and the engine that cannot take chunks.
    """
    if longest > batch and not about.streams:
        raise ConfigError(
            f"batching.max_batch_tokens ({batch}) cannot hold the longest input ({longest}), and "
            f"the {about.mixer} mixer in the {about.backend} engine cannot take it in chunks: "
            "raise it, or lower max_input_length of the model"
        )


def check_dimensions(about: EngineInfo, dimensions: int | None) -> None:
    """Refuse a width that the model's vectors cannot be cut to; None is full width.

    Raises:
        ValidationError: Saying what is allowed.
    """
    problem = None if dimensions is None else width_problem(dimensions, about.dimensions)
    if problem is not None:
        raise ValidationError(f"dimensions {problem}", param="dimensions")


def too_many_tokens(most: int) -> TooManyTokensError:
    """The error of a request with more tokens than may be queued at all."""
    return TooManyTokensError(
        f"the request has more than {most} tokens, the most that the queue takes at once "
        "(batching.max_queue_tokens): send less at once",
        param="input",
    )


def find_prompt(prompts: Prompts, name: str | None) -> str:
    """The prompt of this name, or the default one; empty where there is none.

    Raises:
        ValidationError: Naming the prompts that there are.
    """
    try:
        return prompts.find(name)
    except KeyError:
        raise ValidationError(
            f"unknown prompt_name; prompts of this model: {prompts.known}", param="prompt_name"
        ) from None


def no_text(about: EngineInfo) -> ValidationError:
    """The error of a request for text, to a model that reads none."""
    width = about.feature_size
    if width is None:
        return ValidationError("this model takes ids, not text", param="input")
    return ValidationError(
        f"this model takes feature vectors, rows of {width} numbers, not text or ids: send them to "
        "/embed, /embed_all or the tensor features of /v2",
        param="input",
    )
