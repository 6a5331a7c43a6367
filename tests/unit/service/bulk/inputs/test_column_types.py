"""Types of columns: chosen from the first records, then kept; no value is lost or changed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from osa.model.records.record import BadRecord
from osa.service.bulk.inputs.column_types import choose_kinds, fit, to_batch, to_schema

TEXT = st.text('a "\\\n\u00e9\ud800\U0001f600', max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), min_size=1, max_size=6))
def test_what_chose_the_kinds_comes_back_equal(records: list[dict[str, Any]]) -> None:
    kinds = choose_kinds(records)
    assume(kinds)
    good, fitted = [], []
    for record in records:
        with contextlib.suppress(BadRecord):  # surrogates; integers that no float holds
            fitted.append(fit(record, kinds))
            good.append(record)
    rows = to_batch(fitted, to_schema(kinds)).to_pylist()
    for record, row in zip(good, rows, strict=True):
        for name, kind in kinds.items():
            value = record.get(name)
            stored = row[name]
            if kind == "json" and value is not None:
                stored = json.loads(stored)
            assert stored == value


@pytest.mark.parametrize(
    ("first", "later", "message"),
    [
        ({"a": 1}, {"a": "x"}, "column 'a' is an integer in the first records, got the string 'x'"),
        ({"a": 1}, {"a": True}, "got a boolean"),
        ({"a": 1}, {"a": 2**63}, "column 'a' is an integer"),
        ({"a": 1.5}, {"a": 2**53 + 1}, "column 'a' is a number"),
        ({"a": "x"}, {"a": ["x"]}, "column 'a' is a string in the first records, got a list"),
        ({"a": "x"}, {"a": "x", "b": 1}, "has columns that the first records have not: 'b'"),
        ({"a": "x"}, {"a": "\ud800"}, "column 'a' holds a lone surrogate"),
        ({"a": [1]}, {"a": ["\udfff"]}, "column 'a' holds a lone surrogate"),
    ],
)
def test_a_record_that_does_not_fit_is_bad(
    first: dict[str, Any], later: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRecord, match=message.replace("'", ".")):
        fit(later, choose_kinds([first]))
