"""Ids of long texts as arrays, tokenised in small pieces where the library has one thread."""

from __future__ import annotations

import numpy as np
import pytest

from osa.model.embedding_model import PRETRAINED
from osa.model.text.cutter import PIECE
from osa.model.text.slices import PARALLEL, SLICE, Direction, go_on, is_serial
from osa.model.tokenization import TextTokenizer

TOKENIZER = TextTokenizer.from_file(PRETRAINED / "tokenizer.json")
LONG = "a man plays a guitar, \u2603 ! " * (2 * SLICE // 26)


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("prompt", ["", "query: "])
@pytest.mark.parametrize("longest", [None, 900])
def test_arrays_hold_the_ids_of_lists(
    direction: Direction, prompt: str, longest: int | None
) -> None:
    texts = [LONG, "a cat", LONG + "!"]
    found = TOKENIZER.iterate(texts, longest, direction, False, prompt, arrays=True)
    wanted = TOKENIZER.iterate(texts, longest, direction, False, prompt)
    kinds = []
    for array, row in zip(found, wanted, strict=True):
        assert list(array.ids) == row.ids
        assert array[1:] == row[1:], "truncated, offsets, unknown"
        kinds.append(type(array.ids))
    assert kinds == [np.ndarray, list, np.ndarray]


@pytest.mark.parametrize("told", ["false", "OFF", "0", "true", None])
def test_one_thread_is_asked_more_often(monkeypatch: pytest.MonkeyPatch, told: str | None) -> None:
    if told is None:
        monkeypatch.delenv(PARALLEL, raising=False)
    else:
        monkeypatch.setenv(PARALLEL, told)
    assert is_serial() == (told in ("false", "OFF", "0"))
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    (found,) = TOKENIZER.iterate([LONG], check=check, arrays=True)
    (wanted,) = TOKENIZER.iterate([LONG], check=go_on)
    assert list(found.ids) == wanted.ids
    least = len(LONG) // (PIECE if is_serial() else SLICE)
    assert least <= checks <= 2 * least + 2
