"""Special tokens in texts are characters, whatever the tokenizer, unless they are asked for."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from osa.model import EmbeddingModel
from osa.model.tokenization import TextTokenizer

TYPED = "a [CLS] b [SEP][SEP] [PAD] [MASK] c"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FRAME = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)


def word_piece() -> Tokenizer:
    words = [*SPECIAL, "a", "b", "c", "[", "]", "cls", "sep", "pad", "mask", "[unused0]", "é"]
    tokenizer = Tokenizer(
        models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def whole_words() -> Tokenizer:
    words = {word: at for at, word in enumerate([*SPECIAL, "a", "b", "c"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def unigram() -> Tokenizer:
    pieces = [(name, 0.0) for name in SPECIAL]
    pieces += [(piece, -3.0) for piece in ("▁a", "▁b", "▁c", "▁", "[", "]", *"CLSEPADMKab")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


MAKERS = {"word-piece": word_piece, "whole words": whole_words, "unigram": unigram}


def wrap(kind: str, extra: bool = False) -> tuple[TextTokenizer, Tokenizer]:
    """A tokenizer of ours, and the library's own."""
    library = MAKERS[kind]()
    library.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    if extra:
        library.add_special_tokens(["<new>"])
        library.add_tokens(["later"])
    library.post_processor = FRAME
    content = library.to_str()
    return TextTokenizer.from_json(content.encode()), Tokenizer.from_str(content)


@pytest.mark.parametrize("kind", MAKERS)
def test_typed_special_tokens_are_text(kind: str) -> None:
    tokenizer, library = wrap(kind)
    (found,) = tokenizer.encode([TYPED])
    control = {library.token_to_id(name) for name in SPECIAL} - {1}
    assert (found.ids[0], found.ids[-1]) == (2, 3)
    assert not control & set(found.ids[1:-1])
    ((_, tokens, _),) = tokenizer.tokens([TYPED])
    assert [token.id for token in tokens] == found.ids
    assert tokenizer.encode_parts([TYPED])[0] == found.ids[1:-1]
    assert len(tokenizer.offsets([TYPED])[0]) == len(found.ids) - 2


@pytest.mark.parametrize("kind", MAKERS)
def test_they_are_control_tokens_where_they_are_asked_for(kind: str) -> None:
    tokenizer, library = wrap(kind)
    (found,) = tokenizer.encode([TYPED], parse_special=True)
    assert found.ids == library.encode(TYPED).ids
    (pair,) = tokenizer.encode_pairs([(TYPED, "a")], parse_special=True)
    assert pair.ids == [*found.ids[1:-1], tokenizer.encode_parts(["a"])[0][0]]
    ((_, tokens, _),) = tokenizer.tokens([TYPED], parse_special=True)
    assert [token.id for token in tokens] == found.ids


@pytest.mark.parametrize("kind", MAKERS)
def test_other_texts_have_the_ids_of_the_library(kind: str) -> None:
    tokenizer, library = wrap(kind, extra=True)
    texts = ["a b c", "", "  b", "later a é", "x", "<", "[a]", "a later"]
    assert [found.ids for found in tokenizer.encode(texts)] == [
        library.encode(text).ids for text in texts
    ]
    rows = [library.encode(TYPED).ids]
    assert tokenizer.decode(rows, False) == library.decode_batch(rows, False)
    assert json.loads(tokenizer.to_json()) == json.loads(library.to_str())
    assert tokenizer.vocab_size == max(library.get_vocab().values()) + 1
    assert tokenizer.id_of("[MASK]") == 4


def test_unknown_tokens_are_counted_in_what_is_kept() -> None:
    tokenizer, _ = wrap("word-piece")
    found = tokenizer.encode(["a x y", "a", "x x x x"], 4)
    assert [text.unknown for text in found] == [1, 0, 2]
    assert found[2].truncated == 2
    (pair,) = tokenizer.encode_pairs([("x a", "y")], type_stride=100)
    assert pair.unknown == 2
    assert wrap("unigram")[0].encode(["a é"])[0].unknown == 1
    assert tokenizer.count_unknown([1, 2, 1]) == 2


def test_a_tokenizer_that_knows_everything_counts_nothing() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    assert TextTokenizer(tokenizer).encode(["ab x"])[0].unknown == 0


def test_ids_that_no_text_has_are_known(default_model: EmbeddingModel) -> None:
    assert wrap("word-piece")[0].reserved_ids == {14}
    assert wrap("unigram")[0].reserved_ids == frozenset()
    assert default_model.tokenizer is not None
    assert default_model.tokenizer.reserved_ids == {*range(1, 100), *range(104, 999)}


def test_a_reserved_name_that_texts_may_have_is_not_reserved() -> None:
    library = word_piece()
    library.add_tokens(["[unused0]"])
    assert TextTokenizer(library).reserved_ids == frozenset()
