"""``prompts.json`` of a checkpoint: texts by name that a model wants before inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from osa.model.common.model_files import parse_json
from osa.model.errors import CheckpointError

PROMPTS = "prompts.json"


def prompts_to_json(prompts: Mapping[str, str], default: str | None) -> str:
    """Prompts by name, and the name of the one for inputs that name none, as JSON."""
    values = {"prompts": dict(prompts), "default_prompt_name": default}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def prompts_from_json(content: bytes, source: Path) -> tuple[dict[str, str], str | None]:
    """What ``prompts_to_json`` wrote; ``source`` is named in messages.

    Raises:
        CheckpointError: It is something else.
    """
    try:
        values = parse_json(content)
        prompts, default = values["prompts"], values["default_prompt_name"]
        texts = {str(name): str(text) for name, text in prompts.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{source} does not hold prompts: {error!r}") from error
    if default is not None and default not in texts:
        raise CheckpointError(f"{source}: default_prompt_name {default!r} is none of the prompts")
    return texts, default
