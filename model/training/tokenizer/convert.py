"""Existing tokenizers: read, checked, and measured on texts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from osa.model.errors import ConfigError, InputError
from osa.model.text.special import unknown_id
from osa.model.tokenization import TextTokenizer
from osa.model.training.tokenizer.train import SPECIAL, batches, wordpiece

FILE, VOCABULARY, SETTINGS = "tokenizer.json", "vocab.txt", "tokenizer_config.json"
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
MASKS = ("[MASK]", "<mask>")
EXAMPLES = 3
PROBE = "a text of a few words"


@dataclass(frozen=True)
class Measurement:
    """Statistics of a tokenizer on texts.

    Attributes:
        texts: Number of texts.
        words: Number of words, separated by white space.
        tokens: Number of tokens without the special tokens added to each text.
        unknown: Number of unknown tokens among them.
        examples: Text, tokens and decoded tokens of the first few texts.
    """

    texts: int
    words: int
    tokens: int
    unknown: int
    examples: tuple[tuple[str, tuple[str, ...], str], ...]


def load_existing(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``, or convert a ``vocab.txt`` of BERT; or either of a directory.

    Raises:
        ConfigError: There is neither, or it cannot be read or used.
    """
    if path.is_dir():
        found = [path / name for name in (FILE, VOCABULARY) if (path / name).is_file()]
        if not found:
            raise ConfigError(f"{path} holds neither {FILE} nor {VOCABULARY}")
        path = found[0]
    try:
        if path.suffix == ".txt":
            checked = TextTokenizer(_convert(path))
        else:
            checked = TextTokenizer.from_file(path)
        if len(checked.encode([PROBE])[0].ids) <= checked.num_special_tokens:
            raise ConfigError(f"{path} makes no tokens of {PROBE!r}")
    except (OSError, InputError) as error:
        raise ConfigError(f"cannot take over {path}: {error}") from error
    return Tokenizer.from_str(checked.to_json())


def remarks(tokenizer: Tokenizer) -> list[str]:
    """Remarks about a tokenizer that matter for training with it."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    found = []
    if holes := max(vocabulary.values()) + 1 - len(set(vocabulary.values())):
        found.append(f"{holes} ids below the largest have no token; they are embedded all the same")
    if not any(name in vocabulary for name in MASKS):
        found.append(f"no mask token ({' or '.join(MASKS)}): no training on masked tokens")
    if not tokenizer.num_special_tokens_to_add(False):
        found.append("no token is put around a text: an empty text has no tokens")
    return found


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> Measurement:
    """Statistics of ``tokenizer`` on ``texts``."""
    unknown_token = unknown_id(tokenizer)
    count, words, tokens, unknown = 0, 0, 0, 0
    examples: list[tuple[str, tuple[str, ...], str]] = []
    for batch in batches(texts):
        encodings = tokenizer.encode_batch(batch, add_special_tokens=False)
        for text, encoding in zip(batch, encodings, strict=True):
            count += 1
            words += len(text.split())
            tokens += len(encoding.ids)
            unknown += 0 if unknown_token is None else encoding.ids.count(unknown_token)
            if len(examples) < EXAMPLES:
                decoded = tokenizer.decode(encoding.ids, skip_special_tokens=False)
                examples.append((text, tuple(encoding.tokens), decoded.strip()))
    return Measurement(count, words, tokens, unknown, tuple(examples))


def _convert(path: Path) -> Tokenizer:
    """The tokenizer of a BERT vocabulary, with the settings in its directory."""
    try:
        lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        settings = _settings(path.with_name(SETTINGS))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    tokens = [line.removesuffix("\r") for line in lines]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        twice = next(token for place, token in enumerate(tokens) if vocabulary[token] != place)
        raise ConfigError(f"{path} lists {twice!r} twice")
    special = [settings.get(role) or name for role, name in zip(ROLES, SPECIAL, strict=True)]
    special = [entry["content"] if isinstance(entry, dict) else entry for entry in special]
    try:
        return wordpiece(
            vocabulary,
            bool(settings.get("do_lower_case", True)),
            special,
            settings.get("strip_accents"),
            bool(settings.get("tokenize_chinese_chars", True)),
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object")
    return values
