"""Long texts: their pieces have exactly the tokens of the whole, in bounded memory."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import trainers as train

from osa.model.text import cutter, slices
from osa.model.text.cutter import ALONE, TextCutter, describe
from osa.model.text.slices import Direction, SlicedEncoder
from osa.model.tokenization import TextTokenizer

DEFAULT = Path("model/pretrained/default/tokenizer.json")
ALPHABET = [
    *"ae\u00e9 .,!?;:'-[]{}<>#@0123\u00b2\u00bd_\t\n\r\x1c\x0b\x85\u00a0\u200b\u3000\u2028",
    *"\u0301\u0338\u6f22\u5b57\u30a2\ud55c\U0001f600\u060c\u3002\uff01\u2026\u201c\u00df\u0130",
    *"\u017f\ufb01",  # letters that change their length or kind in lower case or normal forms
    *("the", "cat", " sat", "'re", "'s", "[SEP]", "[MASK]", "[PAD]", "<mask>", "|||", "   "),
    "\U0001f469\u200d\U0001f469",
]
TEXTS = st.lists(st.sampled_from(ALPHABET), min_size=12, max_size=120).map("".join)


def byte_level() -> Tokenizer:
    """GPT-2's pipeline with the added tokens that ModernBERT has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = ["the cat sat on the mat, he's here. we're 123 there! \u6f22\u5b57 " * 5]
    trainer = train.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_tokens([AddedToken("   ", normalized=True), AddedToken("|||", normalized=True)])
    tokenizer.add_special_tokens(
        [AddedToken("[MASK]", lstrip=True), AddedToken("[SEP]"), AddedToken("<mask>", rstrip=True)]
    )
    return tokenizer


TOKENIZERS = {"bert": Tokenizer.from_file(str(DEFAULT)), "byte-level": byte_level()}

ENCODERS = {name: SlicedEncoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pieces of a few characters."""
    with monkeypatch.context() as patch:
        make_small(patch)
        yield


def make_small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cutter, "PIECE", 7)
    patch.setattr(cutter, "WINDOW", 5)
    patch.setattr(slices, "SLICE", 9)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_pieces_have_the_tokens_of_the_whole(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    whole = tokenizer.encode(text, add_special_tokens=False)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        (found,) = ENCODERS[name].encode([text], None, offsets=True)
        parts = list(ENCODERS[name].parts([text, "a"]))
    assert found.ids == whole.ids
    assert found.offsets == whole.offsets
    assert found.total == len(whole.ids)
    assert [number for part in parts if not part.text for number in part.ids] == whole.ids
    assert [span for part in parts if not part.text for span in part.offsets] == whole.offsets


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("room", [1, 5, 40, 1000])
@pytest.mark.usefixtures("small")
def test_what_is_kept_of_a_long_text_is_its_beginning_or_end(
    name: str, direction: Direction, room: int
) -> None:
    tokenizer, text = TOKENIZERS[name], "the cat, sat. [SEP] \u6f22\u5b57 re's " * 5
    whole = tokenizer.encode(text, add_special_tokens=False)
    (found,) = ENCODERS[name].encode([text], room, direction, offsets=True)
    kept = slice(0, room) if direction == "right" else slice(max(0, len(whole.ids) - room), None)
    assert (found.ids, found.offsets) == (whole.ids[kept], whole.offsets[kept])
    assert found.total == len(whole.ids)


@pytest.mark.usefixtures("small")
def test_long_texts_are_cut_and_short_ones_grouped() -> None:
    for tokenizer in TOKENIZERS.values():
        found = TextCutter.of({**_description(tokenizer)})
        assert found is not None
        pieces = list(found.pieces("the cat sat on a mat, " * 20, slices.go_on))
        assert max(len(piece) for _, piece in pieces) < 15
        assert [start for start, _ in pieces] == [
            sum(len(piece) for _, piece in pieces[:place]) for place in range(len(pieces))
        ]
    assert list(slices.in_slices(["ab", "cd", "efghijklmno", "p", ""])) == [
        ["ab", "cd"],
        ["efghijklmno"],
        ["p", ""],
    ]


def _description(tokenizer: Tokenizer) -> dict[str, object]:
    found: dict[str, object] = json.loads(tokenizer.to_str())
    return found


def test_every_place_of_berts_stands_alone() -> None:
    """Whatever the versions of Unicode that Python and the library have."""
    tokenizer = TOKENIZERS["bert"]
    places = [chr(code) for code in range(0x10000) if ALONE.fullmatch(chr(code))]
    assert len(places) > 20_000
    random.Random(0).shuffle(places)
    for start in range(0, len(places), 500):
        some = places[start : start + 500]
        whole = tokenizer.encode_batch([f"a{place}b" for place in some], add_special_tokens=False)
        parts = tokenizer.encode_batch(
            [part for place in some for part in (f"a{place}", "b")], add_special_tokens=False
        )
        for row, encoding in enumerate(whole):
            assert encoding.ids == parts[2 * row].ids + parts[2 * row + 1].ids, ascii(some[row])


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"normalizer": {"type": "Sequence"}},
        {"model": {"type": "Unigram"}},
        {"post_processor": {"type": "RobertaProcessing"}},
        {"added_tokens": [{"content": "x", "single_word": True}]},
        {"added_tokens": [{"content": "a b", "normalized": True}]},
        {"added_tokens": [{"content": "x", "normalized": True, "lstrip": True}]},
        {"added_tokens": [{"content": " x", "lstrip": True}]},
    ],
)
def test_other_pipelines_are_not_cut(change: dict[str, object]) -> None:
    for tokenizer in TOKENIZERS.values():
        assert TextCutter.of({**_description(tokenizer), **change}) is None


def test_work_ends_between_slices_where_nobody_wants_it_any_more() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise TimeoutError

    tokenizer = TextTokenizer.from_file(DEFAULT)
    for texts in (["a " * 1_000_000], ["a " * 500] * 2000):
        calls = 0
        with pytest.raises(TimeoutError):
            list(tokenizer.iterate(texts, 512, check=check))
        calls = 0
        with pytest.raises(TimeoutError):
            for _ in tokenizer.tokens(texts, check=check):
                pass
        calls = 0
        with pytest.raises(TimeoutError):
            list(tokenizer.iterate_pairs([(text, "b") for text in texts[:2]] * 2, 512, check=check))


def stripping(name: str) -> Tokenizer:
    """With many added tokens, of which one takes the white space on both sides."""
    tokenizer = Tokenizer.from_str(TOKENIZERS[name].to_str())
    tokenizer.add_special_tokens([f"<unused{number}>" for number in range(100)])
    tokenizer.add_special_tokens([AddedToken("<both>", lstrip=True, rstrip=True)])
    return tokenizer


WITHOUT_PLACES = [
    ("byte-level", " <both>" * 70_000),
    ("bert", " \t<both>" * 70_000),
    ("bert", "<both>" + " \n" * 250_000),
    ("bert", " \n" * 250_000 + "<both>"),
]


@pytest.mark.parametrize(("name", "text"), WITHOUT_PLACES)
def test_who_looks_for_places_asks_whether_they_are_wanted(name: str, text: str) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        list(SlicedEncoder(stripping(name)).encode([text], 512, check=check))


@pytest.mark.parametrize(("name", "text"), WITHOUT_PLACES)
def test_a_text_without_places_is_looked_through_once(name: str, text: str) -> None:
    found = TextCutter.of(describe(stripping(name)))
    assert found is not None
    began = time.process_time()
    assert [piece for _, piece in found.pieces(text, slices.go_on)] == [text]
    assert time.process_time() - began < 3.0


@pytest.mark.parametrize("name", TOKENIZERS)
def test_special_tokens_that_are_text_hinder_no_cut(name: str) -> None:
    tokenizer = TextTokenizer(Tokenizer.from_str(TOKENIZERS[name].to_str()))
    for text in ("[MASK]" * 10, " [MASK] <mask> " * 10):
        with pytest.MonkeyPatch.context() as patch:
            make_small(patch)
            parts = [ids for _, ids, _ in tokenizer.tokens([text], add_special_tokens=False)]
        assert len(parts) > 5 or (name, text[0]) == ("byte-level", "["), "one word"
        (whole,) = tokenizer.encode([text])
        body = whole.ids[len(tokenizer.prefix) : len(whole.ids) - len(tokenizer.suffix)]
        assert [token.id for part in parts for token in part] == body


@pytest.mark.parametrize("length", [slices.SLICE - 6, slices.SLICE, slices.SLICE + 1])
def test_no_text_is_lost_where_its_neighbour_is_long_with_its_prompt(length: int) -> None:
    tokenizer = TextTokenizer.from_file(DEFAULT)
    texts = [("ab " * slices.SLICE)[:length], "hi", "a cat"]
    found = tokenizer.encode(texts, 512, prompt="query: ")
    assert found == [tokenizer.encode([text], 512, prompt="query: ")[0] for text in texts]


def test_a_description_is_that_of_the_file_without_its_vocabulary() -> None:
    for tokenizer in TOKENIZERS.values():
        whole, found = _description(tokenizer), describe(tokenizer)
        for part in ("normalizer", "pre_tokenizer", "post_processor"):
            assert found[part] == whole[part]
        tokens: list[dict[str, object]] = whole["added_tokens"]  # type: ignore[assignment]
        assert found["added_tokens"] == [
            {name: value for name, value in token.items() if name != "id"} for token in tokens
        ]


def test_pairs_are_yielded_before_the_texts_of_later_ones_are_read() -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1

    pairs = [("a cat", "a dog " * 12_000 + str(number)) for number in range(10)]
    found = TextTokenizer.from_file(DEFAULT).iterate_pairs(pairs, 512, check=check)
    next(found)
    first = calls
    assert len(list(found)) == 9
    assert calls > 8 * first


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=300)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 120), max_size=8))
def test_a_text_that_comes_in_pieces_has_the_tokens_of_the_whole(
    name: str, text: str, cuts: list[int]
) -> None:
    whole = TOKENIZERS[name].encode(text, add_special_tokens=False)
    bounds = [0, *sorted(cuts), len(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        parts = list(ENCODERS[name].stream(pieces, offsets=True))
    assert [number for ids, _ in parts for number in ids] == whole.ids
    assert [span for _, spans in parts for span in spans] == whole.offsets


@pytest.mark.usefixtures("small")
def test_tokens_come_before_the_text_ends() -> None:
    taken = 0

    def pieces() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "a cat sat. "

    stream = ENCODERS["bert"].stream(pieces())
    found = [number for _ in range(20) for number in next(stream)[0]]
    assert len(found) >= 20
    assert taken < 40
