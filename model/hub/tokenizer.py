"""``tokenizer.json`` with what ``tokenizer_config.json`` changes in it, as transformers reads both.

Transformers' classes for BERT's and RoBERTa's vocabularies set these options from the second file,
or to their defaults, whatever the first one holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NORMALIZER: dict[str, tuple[str, bool | None]] = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}
"""Options of BERT's tokenizers: fields of ``BertNormalizer``, and their defaults."""
WORD_PIECE = ("BertTokenizer", "DistilBertTokenizer", "MPNetTokenizer")
BYTE_LEVEL = ("RobertaTokenizer",)
USUAL = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "nomic_bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
}
"""Classes by model type, for settings that name none; other types' files are read as they lie."""


def with_settings(content: bytes, settings: Mapping[str, Any], model_type: str) -> bytes:
    """The content of a ``tokenizer.json`` with the options that ``settings`` state.

    Args:
        content: Returned as it is where nothing changes, or where it is not a tokenizer.
        settings: Of ``tokenizer_config.json``.
        model_type: Of ``config.json``.
    """
    usual = USUAL.get(model_type, "")
    named = (usual and settings.get("tokenizer_class")) or usual
    kind = str(named).removesuffix("Fast")
    try:
        values = json.loads(content)
        normalizer, words = values.get("normalizer"), values.get("pre_tokenizer")
    except (ValueError, AttributeError, RecursionError):
        return content  # refused by name later
    changed = False
    if kind in WORD_PIECE and _is(normalizer, "BertNormalizer"):
        for name, (field, unsaid) in NORMALIZER.items():
            wanted = settings.get(name, unsaid)
            if wanted != normalizer.get(field):
                normalizer[field] = wanted
                changed = True
    if kind in BYTE_LEVEL and _is(words, "ByteLevel"):
        spaced = settings.get("add_prefix_space") is True
        if spaced != words.get("add_prefix_space"):
            words["add_prefix_space"] = spaced
            changed = True
    return json.dumps(values, ensure_ascii=False).encode() if changed else content


def _is(part: Any, kind: str) -> bool:
    return isinstance(part, dict) and part.get("type") == kind
