"""Tokenising: special tokens survive truncation, the limit is exact, bad Unicode is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors

from osa.model.errors import InputError
from osa.model.text.checks import check_unicode
from osa.model.tokenization import Direction, TextTokenizer
from tests.conftest import make_tokenizer

TEXT = "the cat sat on a mat"
DIRECTIONS: tuple[Direction, ...] = ("left", "right")


def test_short_texts_are_left_alone() -> None:
    (encoded,) = make_tokenizer().encode([TEXT], 8)
    assert encoded.ids == [2, 4, 5, 7, 9, 11, 10, 3]
    assert encoded.truncated == 0


@pytest.mark.parametrize(
    ("direction", "kept"), [("right", [2, 4, 5, 7, 3]), ("left", [2, 9, 11, 10, 3])]
)
def test_long_texts_are_cut_inside_the_special_tokens(
    direction: Direction, kept: list[int]
) -> None:
    (encoded,) = make_tokenizer().encode([TEXT], 5, direction)
    assert encoded.ids == kept
    assert encoded.truncated == 3


def test_truncation_is_per_call() -> None:
    tokenizer = make_tokenizer()
    assert len(tokenizer.encode([TEXT], 4)[0].ids) == 4
    assert len(tokenizer.encode([TEXT])[0].ids) == 8


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="beside 2 special tokens, got 2"):
        make_tokenizer().encode([TEXT], 2)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(InputError, match="text 1 holds a lone surrogate"):
        make_tokenizer().encode(["fine", "\ud800"])


def test_json_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(make_tokenizer().to_json())
    loaded = TextTokenizer.from_file(file)
    assert loaded.encode([TEXT]) == make_tokenizer().encode([TEXT])
    assert loaded.vocab_size == 12
    with pytest.raises(InputError, match=r"missing.json"):
        TextTokenizer.from_file(tmp_path / "missing.json")
    with pytest.raises(InputError, match="is not a tokenizer"):
        TextTokenizer.from_json(b"\xff")


def test_the_vocabulary_reaches_to_the_largest_id() -> None:
    sparse = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "b": 9}, unk_token="[UNK]"))
    assert TextTokenizer(sparse).vocab_size == 10


TEMPLATES = {
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "roberta": ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B [SEP]"),
    "swapped": ("$A [SEP]", "$B:1 [SEP]:1 $A [CLS]:2"),
    "bare": ("$A", "$A $B:1"),
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize("limit", [6, 9, 64])
def test_pairs_are_those_of_the_library(name: str, direction: Direction, limit: int) -> None:
    content = json.loads(make_tokenizer().to_json())
    ids = {token: content["model"]["vocab"][token] for token in ("[CLS]", "[SEP]")}
    library = Tokenizer.from_str(json.dumps(content))
    single, pair = TEMPLATES[name]
    library.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=list(ids.items())
    )
    tokenizer = TextTokenizer.from_json(library.to_str().encode())
    library.enable_truncation(limit, strategy="longest_first", direction=direction)
    texts = ["", "the cat", "a dog sat on the mat", "the cat sat"]
    pairs = [(first, second) for first in texts for second in texts]
    for found, wanted in zip(
        tokenizer.encode_pairs(pairs, limit, direction, 100),
        library.encode_batch(pairs),
        strict=True,
    ):
        types = [number // 100 for number in found.ids]
        assert [number % 100 for number in found.ids] == wanted.ids
        assert types == wanted.type_ids


def test_long_texts_of_pairs_cost_no_more_than_their_length() -> None:
    tokenizer = make_tokenizer()
    long = "the cat " * 20_000
    began = time.process_time()
    (pair,) = tokenizer.encode_pairs([(long, long)], 64)
    many = tokenizer.encode_pairs([(long, "a dog")] * 500, 64)
    assert time.process_time() - began < 5.0, "pieces that were cut off must not be combined"
    assert (len(pair.ids), len(many), len(many[0].ids)) == (64, 500, 64)


def prompted(direction: Direction, prompt: str = "the cat", limit: int = 7) -> list[int]:
    (encoded,) = make_tokenizer().encode([" sat on a mat a dog"], limit, direction, prompt=prompt)
    assert encoded.truncated == 3
    return encoded.ids


def test_a_prompt_stays_whole_whichever_side_of_its_text_is_cut() -> None:
    whole = make_tokenizer().encode(["the cat sat on a mat a dog"])[0].ids
    assert prompted("right") == [*whole[:6], 3]
    assert prompted("left") == [2, 4, 5, *whole[-4:]]


def test_a_text_that_fits_behind_its_prompt_is_that_of_both_together() -> None:
    tokenizer = make_tokenizer()
    for direction in DIRECTIONS:
        (found,) = tokenizer.encode([" sat"], 5, direction, prompt="the cat")
        assert found == tokenizer.encode(["the cat sat"])[0]


@pytest.mark.parametrize("direction", ["left", "right"])
def test_a_prompt_that_leaves_no_room_is_refused(direction: Direction) -> None:
    with pytest.raises(InputError, match="the prompt has 4 tokens, which leave no room for text"):
        make_tokenizer().encode([" mat a"], 6, direction, prompt="the cat sat on")


def test_special_tokens_of_a_prompt_are_control_tokens_and_those_of_its_text_are_not() -> None:
    library = Tokenizer.from_str(make_tokenizer().to_json())
    library.add_special_tokens(["<q>"])
    tokenizer = TextTokenizer.from_json(library.to_str().encode())
    mark = tokenizer.id_of("<q>")
    assert mark is not None
    texts = ["the cat", "the <q> cat", "the cat sat on"]
    found = [text.ids for text in tokenizer.encode(texts, prompt="<q>")]
    assert [ids[:2] for ids in found] == [[2, mark]] * 3
    assert [ids.count(mark) for ids in found] == [1, 1, 1]
    assert found[0] == library.encode("<q>the cat").ids
    cut = tokenizer.encode(texts, 5, "left", prompt="<q>")
    assert [text.ids[:2] for text in cut] == [[2, mark]] * 3
    assert tokenizer.prompt_ids("<q>the") == [mark, 4]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("prompt", ["the cat", "<q>the"])
@pytest.mark.parametrize("text", [" sat on a mat a dog", " sat on <q> a mat a dog"])
def test_characters_are_those_of_the_tokens_behind_a_prompt(
    direction: Direction, prompt: str, text: str
) -> None:
    library = Tokenizer.from_str(make_tokenizer().to_json())
    library.add_special_tokens(["<q>"])
    tokenizer = TextTokenizer.from_json(library.to_str().encode())
    whole = prompt + text
    for limit in (7, 64):
        (found,) = tokenizer.encode([text], limit, direction, offsets=True, prompt=prompt)
        names = [library.id_to_token(number) for number in found.ids[1:-1]]
        assert len(names) == len(found.offsets)
        for name, (start, stop) in zip(names, found.offsets, strict=True):
            assert name in (whole[start:stop], "[UNK]")
        assert found.offsets[0][0] == 0


class Counted(str):
    """A text that counts how often it is encoded."""

    times = 0

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self.times += 1
        return super().encode(encoding, errors)


def test_a_text_of_many_pairs_is_checked_once() -> None:
    query = Counted("the cat")
    check_unicode(text for pair in [(query, "a dog")] * 50 for text in pair)
    assert query.times == 1
    with pytest.raises(InputError, match="text 5 holds a lone surrogate"):
        make_tokenizer().encode_pairs([("the", "cat"), ("the", "cat"), ("the", "\ud800")])
