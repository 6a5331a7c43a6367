"""What a request may ask for, whatever its route: number of inputs, prompts."""

from __future__ import annotations

from osa.service.errors import ValidationError
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
