"""Text and JSON files: a line is an example, a blank, or a problem with place and reason."""

from __future__ import annotations

import codecs
import gzip
import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.model.records.record import Blank, Problem, Record

TEXT = (Field("text", "text", "text"),)
LABELLED = (*TEXT, Field("label", "label", "label"))
FEATURES = (Field("series", "x", "features"),)


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def texts(file: Path) -> list[tuple[int, str]]:
    """Line and text of every example; a problem fails the test."""
    items = list(read_file(file, TEXT))
    assert not [item for item in items if isinstance(item, Problem)]
    return [(item.line, item.values["text"]) for item in items if isinstance(item, Record)]


def problems(file: Path, fields: tuple[Field, ...] = TEXT, limit: int = 1 << 20) -> list[str]:
    found = [item for item in read_file(file, fields, limit) if isinstance(item, Problem)]
    return [str(problem).removeprefix(f"{file.parent}/") for problem in found]


@pytest.mark.parametrize("name", ["a.txt", "a.text", "a.TXT", "a.txt.gz"])
def test_a_text_file_is_one_text_a_line(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, b"one\n  two \r\n\n \t \nfive")
    assert texts(file) == [(1, "one"), (2, "two"), (5, "five")]
    blanks = [item.line for item in read_file(file, TEXT) if isinstance(item, Blank)]
    assert blanks == [3, 4]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_a_json_file_is_one_object_a_line(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, b'{"text": " a ", "label": 3, "more": [1]}\n\n{"text": "b"}\n')
    optional = (*TEXT, Field("label", "label", "label", optional=True))
    assert list(read_file(file, optional)) == [
        Record(1, {"text": "a", "label": 3}),
        Blank(2),
        Record(3, {"text": "b", "label": None}),
    ]


def test_a_text_file_serves_the_one_field_that_is_needed_whatever_its_column(
    tmp_path: Path,
) -> None:
    fields = (Field("anchor", "sentence", "text"), Field("label", "label", "label", optional=True))
    items = list(read_file(write(tmp_path / "a.txt", b"one\n"), fields))
    assert items == [Record(1, {"anchor": "one", "label": None})]


@pytest.mark.parametrize("fields", [LABELLED, FEATURES, (*TEXT, Field("b", "b", "text"))])
def test_a_text_file_that_cannot_hold_the_fields_is_refused(
    tmp_path: Path, fields: tuple[Field, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"holds one text a line, needed are .*\.jsonl"):
        list(read_file(write(tmp_path / "a.txt", b"one\n"), fields))


@settings(deadline=None)
@given(lines=st.lists(st.text(st.characters(exclude_characters="\n\r\0", codec="utf-8"))))
def test_only_a_newline_ends_a_line(lines: list[str]) -> None:
    """U+2028, U+0085, form feeds and the like are part of a text; line numbers stay true."""
    kept = [line.removeprefix("\ufeff") if place == 0 else line for place, line in enumerate(lines)]
    expected = [(place, line.strip()) for place, line in enumerate(kept, 1) if line.strip()]
    with tempfile.TemporaryDirectory() as name:
        for end in ("\n", "\r\n"):
            assert texts(write(Path(name) / "a.txt", end.join(lines).encode())) == expected
        records = [{"text": line} for line in kept if line.strip()]
        content = "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()
        found = texts(write(Path(name) / "a.jsonl", content))
        assert [text for _, text in found] == [text for _, text in expected]


def test_separators_of_unicode_split_nothing(tmp_path: Path) -> None:
    strange = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh"
    assert texts(write(tmp_path / "a.txt", f"{strange}\r\nz".encode())) == [(1, strange), (2, "z")]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", codecs.BOM_UTF8 + b"one\ntwo")) == [
        (1, "one"),
        (2, "two"),
    ]
    content = codecs.BOM_UTF8 + b'{"text": "one"}'
    assert texts(write(tmp_path / "a.jsonl.gz", content)) == [(1, "one")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_utf_16_gets_one_clear_message(tmp_path: Path, encoding: str) -> None:
    file = write(tmp_path / "a.txt", "Grüße aus Köln\nund Bonn\n".encode(encoding))
    with pytest.raises(DataError, match=r"a\.txt is in UTF-16 or UTF-32, UTF-8 is expected.*iconv"):
        list(read_file(file, TEXT))


def test_a_line_of_another_encoding_is_a_problem_and_names_the_byte(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"gut\n" + "Käse\n".encode("latin-1") + b"gut\n")
    assert problems(file) == ["a.txt:2: byte 2 (0xe4) is not UTF-8, which is expected"]
    assert [item.line for item in read_file(file, TEXT) if isinstance(item, Record)] == [1, 3]


def test_binary_content_is_a_problem(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"good line of text\nbad\0line\ngood line of text\n")
    assert problems(file) == ["a.txt:2: byte 4 is NUL: binary content, not text"]
    escaped = write(tmp_path / "a.jsonl", rb'{"text": "a\u0000b"}')
    assert problems(escaped) == ["a.jsonl:1: column 'text' holds NUL: binary content, not text"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_longest_line_is_counted_in_bytes_without_its_end(tmp_path: Path, end: bytes) -> None:
    file = write(tmp_path / "a.txt", b"1234567890" + end)
    assert problems(file, limit=10) == []
    assert problems(file, limit=9)[0].startswith("a.txt:1: 1")
    assert problems(write(file, codecs.BOM_UTF8 + b"1234567890" + end), limit=10) == []


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_line_that_is_too_long_is_skipped_without_being_held_in_memory(
    tmp_path: Path, name: str
) -> None:
    file = write(tmp_path / name, b"one\n" + b"x" * 10_000_000 + b"\nthree\n" + b"y" * 200_000)
    tracemalloc.start()
    try:
        found = list(read_file(file, TEXT, 100_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000
    assert [item.line for item in found if isinstance(item, Record)] == [1, 3]
    assert [
        str(item).removeprefix(f"{tmp_path}/") for item in found if isinstance(item, Problem)
    ] == [
        f"{name}:2: 10000000 bytes, longer than max_record_bytes (100000)",
        f"{name}:4: 200000 bytes, longer than max_record_bytes (100000)",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "must be a JSON object, got a list"),
        ('"text"', "must be a JSON object, got the string 'text'"),
        ('{"text": "a"', "is not JSON: Expecting ',' delimiter at character 13"),
        ("[" * 100_000, "is not JSON that can be read"),
        ('{"label": %s}' % ("9" * 5000), "is not JSON that can be read"),
        ('{"body": "a", "title": "b"}', "has no column 'text'; it has 'body', 'title'"),
        ("{}", "has no column 'text'; it has none"),
        ('{"text": null, "label": 1}', "column 'text' is null"),
        ('{"text": " \\u2028 ", "label": 1}', "column 'text' is empty"),
        ('{"text": 7, "label": 1}', "column 'text' must be a string, got the number 7"),
        ('{"text": ["a"], "label": 1}', "column 'text' must be a string, got a list"),
        ('{"text": "\\ud800", "label": 1}', "column 'text' holds a lone surrogate"),
        ('{"text": "a", "label": 1.5}', "column 'label' must be a string or an integer, got the"),
        ('{"text": "a", "label": true}', "column 'label' must be a string or an integer, got a bo"),
        ('{"text": "a", "label": 9223372036854775808}', "column 'label' must fit 64 bits"),
        ('{"text": "a", "label": ""}', "column 'label' is empty"),
    ],
)
def test_a_line_that_is_no_example_is_a_problem(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n'.encode())
    (problem,) = problems(file, LABELLED)
    assert problem.startswith(f"a.jsonl:2: {message}")
    assert len(problem) < 200


def test_a_record_with_a_thousand_columns_gets_a_short_message(tmp_path: Path) -> None:
    record = {f"column{number}" * 20: 1 for number in range(1000)}
    (problem,) = problems(write(tmp_path / "a.jsonl", json.dumps(record).encode()))
    assert problem.endswith("and 980 more")
    assert len(problem) < 1000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[[1, 2], [3]]", "is ragged: row 2 has 1 numbers, row 1 has 2"),
        ("[[1, NaN]]", "must hold finite float32, got nan in row 1, place 2"),
        ("[[1], [-Infinity]]", "must hold finite float32, got -inf in row 2, place 1"),
        ("[[1e39]]", "must hold finite float32, got 1e+39"),
        ("[[1%s]]" % ("0" * 400), "holds a number beyond float32"),
        ('[[1, "2"]]', "must hold numbers, got the string '2'"),
        ("[[1, true]]", "must hold numbers, got a boolean"),
        ("[[1, null]]", "must hold numbers, got null"),
        ("[1, 2]", "must be a list of rows, got a list of other things"),
        ('"1 2"', "must be a list of rows, got the string '1 2'"),
        ("[]", "holds no number"),
        ("[[]]", "holds no number"),
    ],
)
def test_features_that_are_no_rectangle_of_finite_numbers_are_a_problem(
    tmp_path: Path, value: str, message: str
) -> None:
    file = write(tmp_path / "a.jsonl", f'{{"x": {value}}}'.encode())
    (problem,) = problems(file, FEATURES)
    assert problem.startswith(f"a.jsonl:1: column 'x' {message}")


def test_features_become_float32(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", b'{"x": [[1, 2.5], [3, -4]]}')
    (record,) = read_file(file, FEATURES)
    assert isinstance(record, Record)
    series = record.values["series"]
    assert series.dtype == "float32"
    assert series.tolist() == [[1, 2.5], [3, -4]]


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"no gzip" + raw])
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    content = "\n".join(f"line {number * 7919 % 1000}" for number in range(5000)).encode()
    file = tmp_path / "a.txt.gz"
    file.write_bytes(damage(gzip.compress(content)))
    with pytest.raises(DataError, match=r"a\.txt\.gz: damaged gzip file after line \d+: "):
        list(read_file(file, TEXT))


@pytest.mark.parametrize("name", ["none.txt", "none.jsonl", "none.txt.gz", "none.parquet"])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot read .*{name}: No such file"):
        list(read_file(tmp_path / name, TEXT))


@pytest.mark.parametrize("name", ["a.tsv", "a", "a.parquet.gz", "a.json", "a.gz"])
def test_a_kind_of_file_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"unknown kind of file; allowed are \.txt, \.text, .*\.arr"
    ):
        list(read_file(write(tmp_path / name, b"a\tb\n"), TEXT))


@pytest.mark.parametrize(
    "values", [("text", "t", "image"), ("_file", "t", "text"), ("", "t", "text")]
)
def test_a_field_that_no_store_can_hold_is_refused(values: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError):
        Field(*values)  # type: ignore[arg-type]
