"""CSV of any program: fields byte for byte; a bad record costs itself, and says its lines."""

from __future__ import annotations

import csv
import io
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osa.model.errors import ConfigError
from osa.model.records import csv_lines
from osa.model.records.csv_dialect import Dialect, GivenDialect, RecordReader
from osa.model.records.csv_lines import read_csv
from osa.model.records.raw_lines import read_raw_lines
from osa.model.records.record import Problem, Record

LIMIT = 1 << 20


def read(
    content: bytes, given: GivenDialect | None = None, limit: int = LIMIT
) -> list[list[str] | str]:
    """Fields of every record, or ``line: reason``."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "a.csv"
        file.write_bytes(content)
        lines = read_raw_lines(file, limit, compressed=False)
        items = list(read_csv(file, lines, limit, ("text",), given))
    return [
        list(item.values.values()) if isinstance(item, Record) else f"{item.line}: {item.reason}"
        for item in items
    ]


EXPORTED = [
    (b"text;id\na, cat;1\n", [["a, cat", "1"]]),
    (b"text\tid\r\na cat\t1\r\n", [["a cat", "1"]]),
    (b"id|text\n1|a;b,c\n", [["1", "a;b,c"]]),
    (b'\xef\xbb\xbfsep=;\r\ntext;id\r\n"a\r\nb";1\r\n', [["a\r\nb", "1"]]),
    (b'text,id\r"a\rb",1\rc,2\r', [["a\rb", "1"], ["c", "2"]]),
    (b'text,id\n"a ""cat"", x",1\n', [['a "cat", x', "1"]]),
    (rb"text,id" + b'\n"a \\"cat\\", x",1\n', [['a "cat", x', "1"]]),
    (b"text,id\n'a, b',1\n'c''s',2\n", [["a, b", "1"], ["c's", "2"]]),
    (b'text, id\n"a", "b, c"\n', [["a", "b, c"]]),
    (b"text, id\n a, NA\n", [[" a", " NA"]]),
    (b'text,id\nhe said "hi",007\n', [['he said "hi"', "007"]]),
    (b"text,id\na\0b,\xe2\x80\xa8\n", [["a\0b", "\u2028"]]),
    (b'text\n"a"\n\nb', [["a"], ["b"]]),
]


@pytest.mark.parametrize(("content", "records"), EXPORTED)
def test_the_dialect_is_found_out(content: bytes, records: list[list[str]]) -> None:
    assert read(content) == records


def test_names_that_come_twice_are_told_apart_and_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",text,id,id,id_2,\n0,a,1,2,3,4\n")
    (record,) = read_csv(
        tmp_path / "a.csv", read_raw_lines(tmp_path / "a.csv", LIMIT, False), LIMIT, ("text",)
    )
    assert isinstance(record, Record)
    assert record.values == {"": "0", "text": "a", "id": "1", "id_3": "2", "id_2": "3", "_2": "4"}


BAD = [
    (
        b'text,id\na,1\n"open,2\nb,3\nc,4\n',
        [["a", "1"], "3: is not CSV: a quote that is opened here is not closed", ["b", "3"],
         ["c", "4"]],
    ),
    (
        b'text,id\na,1\n"open,2\n"b, b",3\nc,4\n',
        [["a", "1"], "3: is not CSV: ',' or a line end is expected after the closing quote in line "
         "4", ["b, b", "3"], ["c", "4"]],
    ),
    (
        b'text,id\n"a\nb",1,2\n"c\nd",2\n',
        ["2: has 3 fields, the header has 2 (the record is lines 2 to 3)", ["c\nd", "2"]],
    ),
    (b"text,id\na\nb,1,2\nc,3\n", ["2: has 1 fields, the header has 2",
                                      "3: has 3 fields, the header has 2", ["c", "3"]]),
    (
        b'text,id\n"a\n\xff",1\nb,2\n',
        ["3: byte 1 (0xff) is not UTF-8, which is expected (the record is lines 2 to 3)",
         ["b", "2"]],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "items"), BAD)
def test_a_bad_record_costs_itself_and_says_where_it_is(
    content: bytes, items: list[list[str] | str]
) -> None:
    assert read(content) == items


def test_a_quote_left_open_in_a_large_file_is_followed_to_the_limit_alone() -> None:
    rows = [["a cat", str(number)] for number in range(20_000)]
    content = b"text,id\n" + b"".join(f"{text},{number}\n".encode() for text, number in rows)
    found = read(content.replace(b"a cat,77\n", b'"a cat,77\n'), limit=50_000)
    assert [item for item in found if isinstance(item, list)] == rows[:77] + rows[78:]
    assert len(found) == len(rows)


def test_many_quotes_left_open_do_not_cost_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = 0
    feed = RecordReader.feed

    def count(self: RecordReader, text: str, end: str) -> bool:
        nonlocal fed
        fed += 1
        return feed(self, text, end)

    monkeypatch.setattr(RecordReader, "feed", count)
    monkeypatch.setattr(csv_lines, "SHORT", 256)
    line = b'a",""",b\n'  # opens another quote wherever it is read from
    found = read(b"text,id\nx,1\n" + line * 3000 + b"y,2\n", GivenDialect(",", '"', ""), 50_000)
    assert found[0] == ["x", "1"]
    assert any(isinstance(item, str) for item in found)
    assert fed < 3000 * 100


def test_what_is_given_is_not_guessed() -> None:
    content = b'text,id\n"a;b",1\n'
    assert read(content, GivenDialect(quote="")) == [['"a;b"', "1"]]
    assert read(b"text:id\na,b:1\n", GivenDialect(delimiter=":")) == [["a,b", "1"]]
    with pytest.raises(ConfigError, match=r"must have a column 'text'.*read with delimiter ';'"):
        read(content, GivenDialect(delimiter=";"))


def test_a_header_without_the_column_is_told_in_the_likeliest_dialect() -> None:
    with pytest.raises(ConfigError, match=r"it has 'id', 'body' \(read with delimiter ';'\)"):
        read(b'id;body\n1;"A man, and; a guitar"\n2;Cats, dogs\n')
    with pytest.raises(ConfigError, match=r"it has 'words' \(read with delimiter ','\)"):
        read(b"words\na; b\n")


def test_more_columns_than_a_table_may_have_are_refused_in_a_line() -> None:
    with pytest.raises(ConfigError, match="has 10001 columns, at most 10000"):
        read(b"text," + b",".join(b"c%d" % number for number in range(10_000)) + b"\n")


FIELD = st.text(st.sampled_from("ab ,;|\t\"'\\\n\r\u2028\x85é\0"), max_size=6)


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t|"),
    quote=st.sampled_from("\"'"),
    escape=st.sampled_from([None, "\\"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
)
def test_what_csv_writes_comes_back_byte_for_byte(
    rows: list[tuple[str, str]],
    delimiter: str,
    quote: str,
    escape: str | None,
    end: str,
    quoting: int,
) -> None:
    if quoting == csv.QUOTE_NONE:
        escape = "\\"
    if quoting != csv.QUOTE_ALL:  # csv leaves a carriage return before a line end without quotes
        rows = [(one, other.rstrip("\r")) for one, other in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=delimiter,
        quotechar=quote,
        escapechar=escape,
        doublequote=escape is None,
        quoting=quoting,  # type: ignore[arg-type]
        lineterminator=end,
    )
    writer.writerow(["text", "id"])
    writer.writerows(rows)
    given = GivenDialect(delimiter, quote, escape or "")
    assert read(out.getvalue().encode(), given) == [list(row) for row in rows]


TEXTS = ["a cat", "the, mat", 'say "hi"', "two\nlines", "x; y", "it's", "", '5" disk', "1\r\n2"]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_one_corrupted_record_never_loses_another(quoting: int) -> None:
    generator = random.Random(quoting)
    for _ in range(500):
        width = generator.randint(2, 4)
        rows = [
            [f"{generator.choice(TEXTS)}{row}{column}" for column in range(width)]
            for row in range(7)
        ]
        written = []
        for row in [["text", "b", "c", "d"][:width], *rows]:
            out = io.StringIO(newline="")
            csv.writer(out, quoting=quoting, lineterminator="\n").writerow(row)  # type: ignore[arg-type]
            written.append(out.getvalue())
        hurt = generator.randint(1, 7)
        record = written[hurt][:-1]
        place, mark = generator.randint(0, len(record)), generator.choice('",')
        if generator.random() < 0.5:
            record = record[:place] + mark + record[place:]
        elif mark in record[place:]:
            record = record[:place] + record[place:].replace(mark, "", 1)
        written[hurt] = f"{record}\n"
        found = iter([item for item in read("".join(written).encode()) if isinstance(item, list)])
        others = rows[: hurt - 1] + rows[hurt:]
        assert [row for row in others if row not in found] == [], "".join(written)


def test_a_problem_is_one_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b'text,id\n"x\ny')
    (problem,) = read_csv(file, read_raw_lines(file, LIMIT, False), LIMIT, ("text",))
    assert isinstance(problem, Problem)
    assert (problem.file, problem.line, problem.kind) == (file, 2, "not CSV")
    assert Dialect() == Dialect(",", '"', None, skip_space=False)
