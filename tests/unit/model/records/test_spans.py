"""Spans of a file of lines: together all of its lines, each once, whatever the cuts."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.model.errors import ConfigError
from osa.model.records import raw_lines
from osa.model.records.errors import DataError
from osa.model.records.paths import is_remote, open_binary, size_of_file, to_path
from osa.model.records.raw_lines import Span, can_be_split, lines_before, read_raw_lines

PIECES = st.lists(st.sampled_from(["a", "bc\r", "\n", "\r\n", "\u2028", "longer " * 9, "\n\n"]))


@settings(max_examples=150, deadline=None)
@given(PIECES, st.booleans(), st.integers(1, 40), st.sampled_from([3, 8, 1 << 16]))
def test_spans_hold_the_lines_of_the_file_with_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], mark: bool, size: int, chunk: int
) -> None:
    file = tmp_path_factory.mktemp("spans") / "a.txt"
    file.write_bytes((codecs.BOM_UTF8 if mark else b"") + "".join(["x\n", *pieces]).encode())
    assert can_be_split(file)
    total = file.stat().st_size
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_lines, "CHUNK", chunk)
        for start in range(0, total, size):
            before = lines_before(file, start)
            span = Span(start, min(start + size, total))
            lines = read_raw_lines(file, 30, False, span)
            found += [line._replace(number=before + line.number) for line in lines]
    assert found == list(read_raw_lines(file, 30, False))


def test_a_file_whose_lines_end_otherwise_is_not_split(tmp_path: Path) -> None:
    (tmp_path / "mac.txt").write_bytes(b"a\rb\rc")
    assert not can_be_split(tmp_path / "mac.txt")
    (tmp_path / "wide.txt").write_bytes("some text\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        can_be_split(tmp_path / "wide.txt")


def test_an_address_is_a_path_and_a_path_is_one_too(tmp_path: Path) -> None:
    assert to_path(str(tmp_path)) == tmp_path
    assert to_path(f"file://{tmp_path}") == tmp_path
    place = to_path("memory://bucket/a.txt")
    assert is_remote(place)
    assert not is_remote(tmp_path)
    assert size_of_file(tmp_path) is None
    with pytest.raises(ConfigError, match="nosuch://a is no address that can be read"):
        to_path("nosuch://a")
    with pytest.raises(OSError, match="No such file") as caught:
        open_binary(place)
    assert caught.value.strerror == "No such file or directory"


def test_objects_are_read_line_by_line_and_within_spans() -> None:
    from upath import UPath

    place = UPath("memory://bucket/lines.txt")
    place.write_bytes(b"one\ntwo\nthree\n")
    path = to_path(str(place))
    assert size_of_file(path) == 14
    assert [line.content for line in read_raw_lines(path, 99, False)] == [b"one", b"two", b"three"]
    assert [line.content for line in read_raw_lines(path, 99, False, Span(3, 8))] == [b"two"]
    assert lines_before(path, 8) == 2
