"""Tokenising texts and pairs of texts, mixed as a request has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from osa.model.text.slices import Check, go_on
from osa.model.tokenization import TextTokenizer, TokenizedText
from osa.service.engines.base import EngineInfo
from osa.service.errors import ModelKindError
from osa.service.inference.request import EmbedOptions, Pair
from osa.service.inference.tasks import LABELLING, no_pairs


def encode_texts(
    tokenizer: TextTokenizer,
    about: EngineInfo,
    texts: Sequence[str | Pair],
    limit: int | None,
    options: EmbedOptions,
    prompt: str = "",
    offsets: bool = False,
    check: Check = go_on,
) -> Iterator[TokenizedText]:
    """Ids of every text and of every pair, one sequence each, in order and one by one.

    Those of long texts are arrays.

    Args:
        tokenizer: The model's.
        about: The model; says where token types are, and whether it takes pairs.
        texts: Texts, pairs of texts, or both.
        limit: Longest sequence [tokens], special tokens included; of a pair the longer text is cut
            first. None cuts nothing.
        options: Which side of a text is cut, and what special tokens in it are.
        prompt: Put before texts, not before pairs; never cut.
        offsets: Whether to find the characters of tokens; of texts alone.
        check: Called between steps.

    Raises:
        InputError: A lone surrogate, or a limit that leaves no room for text.
        ModelKindError: Pairs, for a model that takes none.
    """
    direction, special = options.direction, options.parse_special
    single = [item for item in texts if isinstance(item, str)]
    pairs = [item for item in texts if isinstance(item, tuple)]
    if pairs and about.task not in LABELLING:
        raise ModelKindError(no_pairs(about.task), param="input")
    alone = tokenizer.iterate(
        single, limit, direction, offsets, prompt, special, check, arrays=True
    )
    if not pairs:
        return alone
    paired = tokenizer.iterate_pairs(pairs, limit, direction, about.type_stride, special, check)
    return (next(alone if isinstance(item, str) else paired) for item in texts)


def count_characters(texts: Sequence[str | Pair]) -> int:
    """Characters of all texts."""
    return sum(len(item) if isinstance(item, str) else sum(map(len, item)) for item in texts)
