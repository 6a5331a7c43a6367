"""Special tokens that stand in a text: characters like others, or control tokens.

The library reads ``[SEP]`` in a text as the separator itself, so whoever writes a text writes the
model's control sequence. Here they are text, unless a caller asks for control tokens.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from tokenizers import Tokenizer

FREE = ("[unused", "<unused")
"""How names of entries begin that BERT's vocabularies, and Gemma's, keep free."""


def special_names(tokenizer: Tokenizer, ids: Collection[int]) -> list[str]:
    """Names of the special tokens of a tokenizer: those it marks, and those of ``ids``."""
    marked = tokenizer.get_added_tokens_decoder().values()
    names = {token.content for token in marked if token.special}
    names |= {tokenizer.id_to_token(number) or "" for number in ids}
    return sorted(names - {""})


def reads_special(tokenizer: Tokenizer, names: Collection[str]) -> bool:
    """Whether one of these names in a text becomes its control token."""
    for name in names:
        number = tokenizer.token_to_id(name)
        for text in (name, f" {name} ", f"a{name}a"):
            if number in tokenizer.encode(text, add_special_tokens=False).ids:
                return True
    return False


def taking_special_as_text(
    tokenizer: Tokenizer, ids: Collection[int], unknown: int | None
) -> Tokenizer:
    """The same tokenizer, changed, or another, for which special tokens in texts are characters.

    The library's own switch is enough but where the vocabulary holds their names as words: there
    a copy with names that nobody can write is returned. Ids stay as they are.

    Args:
        tokenizer: Changed where that is enough.
        ids: Of special tokens that the tokenizer does not mark.
        unknown: Id of the token for what the vocabulary does not have (``unknown_id``).
    """
    names = [
        name for name in special_names(tokenizer, ids) if tokenizer.token_to_id(name) != unknown
    ]
    tokenizer.encode_special_tokens = True
    if not reads_special(tokenizer, names):
        return tokenizer
    values = json.loads(tokenizer.to_str())
    tokenizer.encode_special_tokens = False
    hidden = {name: f"{name}{secrets.token_hex(16)}" for name in names}
    model = values["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {hidden.get(word, word): number for word, number in vocabulary.items()}
    else:
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in vocabulary]
    words = set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
    values["added_tokens"] = [
        token
        for token in values["added_tokens"]
        if token["content"] not in hidden or token["content"] not in words
    ]
    copy: Tokenizer = Tokenizer.from_str(json.dumps(values, ensure_ascii=False))
    copy.encode_special_tokens = True
    return copy


def reserved_ids(tokenizer: Tokenizer, ids: Mapping[str, int]) -> frozenset[int]:
    """Ids that a vocabulary keeps free for later, and that no text has.

    Args:
        tokenizer: Takes special tokens in texts as characters.
        ids: Its vocabulary, added tokens included.
    """
    names = [name for name in ids if name.startswith(FREE) and name[7:-1].isdigit()]
    encodings = tokenizer.encode_batch_fast(names, add_special_tokens=False)
    return frozenset(
        ids[name]
        for name, encoding in zip(names, encodings, strict=True)
        if ids[name] not in encoding.ids
    )


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the token for what the vocabulary does not have; None where there is none."""
    model: Any = tokenizer.model
    if hasattr(model, "unk_token"):
        name: str | None = model.unk_token
    else:
        number: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
        return number
    found: int | None = None if name is None else tokenizer.token_to_id(name)
    return found
