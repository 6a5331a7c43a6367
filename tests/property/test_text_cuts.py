"""Long texts in pieces have exactly the tokens of the whole, in every pipeline that is cut."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers import trainers as train

from osa.model.text import cutter, slices
from osa.model.text.slices import SlicedEncoder

ALPHABET = (
    *"ab Z\u00e9.,!?;:'-_$+<|~12\n\t\r\x00\x1c\x85",
    *"\u0301\u0338\u0345\u093c\u200d\u200b\u00ad\ufffd\ufeff\u180e\ue000",  # marks, nothing to see
    *"\u00a0\u1680\u2028\u3000\u00bd\u2167\u0663",  # white space, numbers
    *"\u4e2d\u6587\u3002\u3001\uff0c\uac00\ud7a3\u1100\u1161\U0001f600\u2010\u2026\u2019",
    # letters whose normal forms end in a mark, or are others
    *"\u0130\u00df\ufb01\u03a3\u2126\u212a\u0915\u0958\u05e9\ufb2a\u226e\u037e",
    *("  ", "   ", "'s", "'re", " a", ", ", "e\u0301", "\u4e2d\u6587"),
    *("<mask>", " <mask> ", "[SEP]", "foo", "FOO", "]]"),
)
ADDED = {
    "plain": (),
    "stripping": (
        AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False, special=True),
        AddedToken("[SEP]", normalized=False, special=True),
        AddedToken("foo", normalized=True),
        AddedToken("   ", normalized=False),
    ),
    "left": (AddedToken("<mask>", lstrip=True, normalized=False, special=True),),
    "right": (
        AddedToken("[SEP]", rstrip=True, normalized=False, special=True),
        AddedToken("]]", normalized=False),
    ),
}
BERTS: dict[str, dict[str, bool]] = {
    "bert": {},
    "bert without ideographs alone": {"handle_chinese_chars": False},
    "bert with accents and case": {"strip_accents": False, "lowercase": False},
    "bert uncleaned": {"clean_text": False},
}
FORMS: dict[str, Callable[[], normalizers.Normalizer] | None] = {
    "byte-level": None,
    "byte-level NFC": normalizers.NFC,
    "byte-level NFD": normalizers.NFD,
}
TEXTS = 20
"""Of an example."""


def some_text(random: Random) -> str:
    return "".join(random.choices(ALPHABET, k=random.randint(10, 120)))


def word_piece(options: dict[str, bool]) -> Tokenizer:
    """BERT's pipeline; pairs of characters are words, so that it matters where words begin."""
    normalizer = normalizers.BertNormalizer(**options)
    letters = sorted({one for item in ALPHABET for one in normalizer.normalize_str(item)})
    pairs = [first + second for first in letters for second in letters]
    words = ["[UNK]", *letters, *pairs, *(f"##{one}" for one in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_level(form: Callable[[], normalizers.Normalizer] | None) -> Tokenizer:
    """GPT-2's pipeline, trained on texts like those of the test."""
    tokenizer = Tokenizer(models.BPE())
    if form is not None:
        tokenizer.normalizer = form()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = train.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    random = Random(0)
    tokenizer.train_from_iterator([some_text(random) for _ in range(300)], trainer)
    return tokenizer


@cache
def pipeline(name: str, added: str) -> Tokenizer:
    tokenizer = word_piece(BERTS[name]) if name in BERTS else byte_level(FORMS[name])
    for token in ADDED[added]:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


@pytest.mark.parametrize("special_as_text", [False, True], ids=["control", "text"])
@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("name", [*BERTS, *FORMS])
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_pieces_have_the_tokens_of_the_whole(
    name: str, added: str, special_as_text: bool, seed: int
) -> None:
    tokenizer = pipeline(name, added)
    tokenizer.encode_special_tokens = special_as_text
    encoder, random = SlicedEncoder(tokenizer), Random(seed)
    assert encoder._cutter is not None
    texts = [some_text(random) for _ in range(TEXTS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutter, "PIECE", 16)
        patch.setattr(cutter, "WINDOW", 8)
        patch.setattr(slices, "SLICE", 32)
        found = list(encoder.encode(texts, None, offsets=True))
        pieces = sum(len(list(encoder._cutter.pieces(text, slices.go_on))) for text in texts)
    assert pieces > 2 * TEXTS
    whole = tokenizer.encode_batch(texts, add_special_tokens=False)
    for text, one, all_at_once in zip(texts, found, whole, strict=True):
        assert one.ids == all_at_once.ids, ascii(text)
        assert one.offsets == all_at_once.offsets, ascii(text)
        assert one.total == len(all_at_once.ids)
