"""Large JSON in pieces: the values, and the errors, of the parser that takes it whole."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osa.service.api.json_bodies import pieces
from osa.service.api.json_bodies.pieces import load_in_pieces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
    | st.sampled_from(['"', "\\", '\\"', "[", "]", ",", "{", "}", '",[', "\\\\"])
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=60,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 60)
    monkeypatch.setattr(pieces, "LEAST_VALUES", 2)


def outcome(load: Any, raw: bytes) -> Any:
    try:
        return load(raw)
    except orjson.JSONDecodeError as error:
        return str(error)


@given(value=VALUES, indent=st.none() | st.integers(0, 2), escaped=st.booleans())
def test_values_are_those_of_the_whole(value: Any, indent: int | None, escaped: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert outcome(load_in_pieces, raw) == outcome(orjson.loads, raw)


@given(
    value=st.lists(VALUES, min_size=20, max_size=40),
    place=st.floats(0, 1),
    change=st.binary(max_size=2)
    | st.sampled_from([b"]", b"}", b"[", b"{", b",", b":", b'"', b"\\"]),
    cut=st.integers(0, 3),
)
def test_so_are_errors(value: list[Any], place: float, change: bytes, cut: int) -> None:
    raw = orjson.dumps({"a": value, "b": 1}) if _fits(value) else b""
    at = int(place * len(raw))
    raw = raw[:at] + change + raw[at + cut :]
    assert outcome(load_in_pieces, raw) == outcome(orjson.loads, raw)


def _fits(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:  # lone surrogates
        return False
    return True


@pytest.mark.parametrize(
    "raw",
    [
        b'{"inputs":[%b]}' % b",".join([b"1"] * 100),
        b'{"inputs":[%b,]}' % b",".join([b"1"] * 100),
        b'{"inputs":[,%b]}' % b",".join([b"1"] * 100),
        b'{"inputs":[%b]}' % b",,".join([b"1,2,3,4,5,6,7"] * 20),
        b'{"inputs":[%b]}' % b",".join([b"1"] * 30 + [b" "] * 40 + [b"2"] * 30),
        b'{"inputs":[{"name":"x","data":[%b]}]}' % b",".join([b"1"] * 100),
        b'{"inputs":[%b],"inputs":2}' % b",".join([b"1"] * 100),
        b'{"inputs":[%b],"x":[1,2]}' % b",".join([b'["\\\\\\"", "]"]'] * 30),
        b"[%b]" % b",".join([b"[1]"] * 100),
        b'{"a":[%b}' % b",".join([b"[1]"] * 100),
        b'{"a":[%b]]}' % b",".join([b"[1]"] * 100),
        b'{"a":[%b}}' % b",".join([b"1"] * 100),
        b"[%b}" % b",".join([b"1"] * 100),
        b"[[%b}]" % b",".join([b"1"] * 100),
        b'{"a":"hi",[%b]:0}' % b",".join([b"1"] * 100),
        b'"%b"' % b",".join([b"[1]"] * 100),
    ],
)
def test_the_shapes_of_requests(raw: bytes) -> None:
    assert outcome(load_in_pieces, raw) == outcome(orjson.loads, raw)


def test_what_is_nested_as_deeply_as_the_parser_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4096)
    depth = 1020
    raw = b'{"b":%b,"a":[%b]}' % (b"[" * depth + b"]" * depth, b",".join([b"1"] * 30_000))
    found = load_in_pieces(raw)
    assert found["a"] == [1] * 30_000
    while found["b"]:
        (found["b"],) = found["b"]
        depth -= 1
    assert depth == 1


def test_long_arrays_are_not_parsed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def loads(raw: bytes) -> Any:
        sizes.append(len(raw))
        return json.loads(raw)

    monkeypatch.setattr("osa.service.api.json_bodies.pieces.orjson.loads", loads)
    for raw in (
        b'{"inputs":[%b],"normalize":true}' % b",".join([b'["x"]'] * 300),
        b'{"inputs":[{"name":"text","data":[%b]}]}' % b",".join([b'"x"'] * 300),
        b'{"inputs":[%b]}' % b",".join([b'"\\\\\\","'] * 300),
    ):
        sizes.clear()
        assert load_in_pieces(raw) == json.loads(raw)
        assert max(sizes) < 160
        assert len(sizes) > 10
