"""CSV files with a header: fields by column, numbers as relevance, empty values."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.model.records.record import Problem, Record

PAIRS = (
    Field("text", "query", "text"),
    Field("text_pair", "passage", "text"),
    Field("label", "label", "relevance"),
    Field("note", "note", "text", optional=True),
)
CONTENT = 'passage,label,query,note\n"a, b\nc",1,one,\nd,0.25,two,so\n'


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz"])
def test_rows_are_read_by_their_columns(tmp_path: Path, name: str) -> None:
    raw = CONTENT.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert list(read_file(tmp_path / name, PAIRS)) == [
        Record(2, {"text": "one", "text_pair": "a, b\nc", "label": 1.0, "note": None}),
        Record(4, {"text": "two", "text_pair": "d", "label": 0.25, "note": "so"}),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p,2,q,", "column 'label' must be a number from 0 to 1, got the number 2.0"),
        ("p,nan,q,", "column 'label' must be a number from 0 to 1, got the number nan"),
        ("p,yes,q,", "column 'label' must be a number from 0 to 1, got the string 'yes'"),
        (",1,q,", "column 'passage' is empty"),
        ("p,1", "has 2 fields, the header has 4"),
    ],
)
def test_a_row_that_is_no_example_is_a_problem(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(CONTENT + row + "\n")
    last = list(read_file(tmp_path / "a.csv", PAIRS))[-1]
    assert isinstance(last, Problem)
    assert (last.line, last.reason) == (5, message)


def test_a_header_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("query,label\nq,1\n")
    with pytest.raises(ConfigError, match=r"must have a column 'passage'.*it has 'query', 'label'"):
        list(read_file(tmp_path / "a.csv", PAIRS))


def test_features_are_not_read_from_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("features\n1\n")
    with pytest.raises(ConfigError, match="CSV holds texts and numbers, no features"):
        list(read_file(tmp_path / "a.csv", (Field("features", "features", "features"),)))
