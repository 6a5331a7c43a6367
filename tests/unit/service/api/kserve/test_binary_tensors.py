"""Tensors of the Open Inference Protocol: round trips in JSON and in bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.api.kserve.binary_tensors import (
    divide,
    read_floats,
    read_integers,
    read_strings,
    split_body,
)
from osa.service.errors import ServiceError, ValidationError

TEXTS = st.lists(st.text(max_size=20), min_size=1, max_size=8)
ROWS = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=width, max_size=width),
        min_size=1,
        max_size=5,
    )
)


def pack(texts: list[str]) -> memoryview:
    encoded = [text.encode() for text in texts]
    return memoryview(b"".join(len(item).to_bytes(4, "little") + item for item in encoded))


@given(TEXTS)
def test_strings_come_back_from_every_form(texts: list[str]) -> None:
    shape = [len(texts), 1]
    assert read_strings(texts, shape, "text") == texts
    assert read_strings([[text] for text in texts], shape, "text") == texts
    assert read_strings(pack(texts), shape, "text") == texts


@given(ROWS)
def test_integers_come_back_from_every_form(rows: list[list[int]]) -> None:
    expected = np.array(rows, dtype=np.int64)
    shape = list(expected.shape)
    flat = expected.reshape(-1).tolist()
    for elements in (rows, flat, memoryview(expected.astype("<i8").tobytes())):
        np.testing.assert_array_equal(read_integers(elements, shape, "input_ids"), expected)


@given(st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_floats_come_back_from_every_form(numbers: list[float]) -> None:
    expected = np.array(numbers, dtype=np.float32).reshape(-1, 1)
    shape = list(expected.shape)
    for elements in (numbers, expected.tolist(), memoryview(expected.astype("<f4").tobytes())):
        np.testing.assert_array_equal(read_floats(elements, shape, "features"), expected)


def test_numbers_of_json_are_floats_and_nothing_else_is() -> None:
    np.testing.assert_array_equal(read_floats([1, 2.5], [1, 2], "features"), [[1, 2.5]])
    assert np.isinf(read_floats([1e39], [1, 1], "features")).all()
    for wrong in ("1", True, None, [1]):
        with pytest.raises(ValidationError, match=r"features\[1\] must be a number"):
            read_floats([1, wrong], [2], "features")


@given(st.binary(max_size=64), st.lists(st.integers(-2, 2**64), max_size=3))
def test_any_bytes_of_any_shape_are_read_or_refused(data: bytes, shape: list[int]) -> None:
    for read in (read_strings, read_integers, read_floats):
        problem = ""
        try:
            read(memoryview(data), shape, "tensor")
        except ServiceError as error:
            problem = str(error)
        assert len(problem) < 300


@given(TEXTS, st.integers(0, 1000), st.integers(0, 1000))
def test_strings_cut_or_lengthened_are_refused(texts: list[str], cut: int, more: int) -> None:
    data = bytes(pack(texts))
    for wrong in (data[: cut % len(data)], data + b"\0" * (1 + more)):
        with pytest.raises(ValidationError):
            read_strings(memoryview(wrong), [len(texts)], "text")


def test_the_bytes_behind_the_json_are_divided_in_order() -> None:
    text, tail = split_body(b"{}abcdef", "2")
    assert (text, bytes(tail)) == (b"{}", b"abcdef")
    first, none, second = divide(tail, [4, None, 2])
    assert none is None
    assert (bytes(first or b""), bytes(second or b"")) == (b"abcd", b"ef")
    assert split_body(b"{}", None) == (b"{}", memoryview(b""))
    for sizes in ([5], [7], [2**70], [None], []):
        with pytest.raises(ValidationError, match="6 bytes follow the JSON"):
            divide(tail, sizes)
