"""The size of a ``tokenizer.json``, before a tokenizer is built of it."""

from __future__ import annotations

import json

from osa.model.errors import InputError

MOST_RULES = 4 << 20
"""Of all but the vocabulary: normaliser, splitting, templates, added tokens [bytes]."""
LISTS = ("vocab", "merges")


def check_content(content: bytes, most_ids: int | None = None) -> None:
    """Refuse what would take minutes to build, or cannot fit the model; the rest is not judged.

    Args:
        content: Of the file.
        most_ids: Ids that the model embeds; None for any number.

    Raises:
        InputError: It is no JSON object, has more ids, or too much beside its vocabulary.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not a tokenizer: {error}") from error
    if not isinstance(found, dict):
        raise InputError("is not a tokenizer: it is no JSON object")
    model = found.get("model")
    model = model if isinstance(model, dict) else {}
    vocabulary = model.get("vocab")
    count = len(vocabulary) if isinstance(vocabulary, (dict, list)) else 0
    if most_ids is not None and count > most_ids:
        raise InputError(f"has {count} ids, the model embeds {most_ids}")
    rest = {**found, "model": {name: part for name, part in model.items() if name not in LISTS}}
    size = len(json.dumps(rest))
    if size > MOST_RULES:
        raise InputError(
            f"has {size} bytes of rules beside its vocabulary, at most {MOST_RULES} are read"
        )
