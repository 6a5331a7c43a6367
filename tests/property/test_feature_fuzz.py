"""Any nested numbers to a feature model: vectors where they are sequences, else a refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osa.service.api.headers import JSON_LENGTH
from osa.service.server.app import create_service
from tests.conftest import local_settings, run_service
from tests.feature_model import LONGEST, WIDTH, save_feature_model

LARGEST = float(np.finfo(np.float32).max)
EXAMPLES = settings(max_examples=200, deadline=None)
numbers = st.one_of(
    st.integers(-3, 9),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e39, -1e300, 2**63, math.nan, math.inf, 1e-46]),
)
others: st.SearchStrategy[Any] = st.sampled_from([None, True, "1", "", [], {}, [[]]])
rows = st.lists(st.one_of(numbers, numbers, numbers, others), min_size=WIDTH, max_size=WIDTH)
ragged = st.lists(numbers, max_size=WIDTH + 1)
sequences = st.one_of(
    st.lists(st.lists(numbers, min_size=WIDTH, max_size=WIDTH), max_size=LONGEST + 2),
    st.lists(st.one_of(rows, rows, ragged), max_size=4),
    others,
)
inputs = st.one_of(sequences, st.lists(sequences, max_size=4), others, numbers)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    directory = save_feature_model(tmp_path_factory.mktemp("features") / "model")
    chosen = local_settings(model__path=directory)
    with run_service(create_service(chosen), chosen) as client:
        yield client


def is_sequence(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, list) and len(row) == WIDTH for row in value)
        and all(
            type(number) in (int, float) and abs(number) <= LARGEST
            for row in value
            for number in row
        )
    )


def count(value: Any) -> int | None:
    """Sequences of a field, None where it is not valid; written without the server's parser."""
    if is_sequence(value):
        return 1
    several = isinstance(value, list) and bool(value) and all(map(is_sequence, value))
    return len(value) if several else None


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
@EXAMPLES
@given(value=inputs)
@example(value=[[[1.0, 2, 3]], [[math.nan, 0, 0]]])
def test_json_is_embedded_or_refused(served: httpx.Client, path: str, value: Any) -> None:
    answer = served.post(path, content=json.dumps({"inputs": value}).encode())
    expected = count(value)
    if expected is None:
        assert answer.status_code in (400, 422), answer.text
        assert len(answer.json()["error"]) < 300
    else:
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) == expected


@EXAMPLES
@given(
    shape=st.lists(st.integers(-1, 4), min_size=1, max_size=3).map(lambda head: [*head, WIDTH]),
    elements=st.lists(st.floats(width=32), max_size=4 * WIDTH),
    lengths=st.none() | st.lists(st.integers(-1, 4), max_size=4),
    cut=st.sampled_from([0, 0, 0, 1, 4]),
)
@example(shape=[4, WIDTH], elements=[0.5] * 12, lengths=[1, 3], cut=0)
@example(shape=[2, 2, WIDTH], elements=[0.5] * 12, lengths=[1, 2], cut=0)
def test_binary_tensors_are_embedded_or_refused(
    served: httpx.Client,
    shape: list[int],
    elements: list[float],
    lengths: list[int] | None,
    cut: int,
) -> None:
    tails = [np.array(elements, "<f4").tobytes()[cut:]]
    described = [("features", "FP32", shape)]
    if lengths is not None:
        tails.append(np.array(lengths, "<i8").tobytes())
        described.append(("lengths", "INT64", [len(lengths)]))
    tensors = [
        {"name": name, "datatype": kind, "shape": size,
         "parameters": {"binary_data_size": len(tail)}}
        for (name, kind, size), tail in zip(described, tails, strict=True)
    ]  # fmt: skip
    text = json.dumps({"inputs": tensors}).encode()
    answer = served.post(
        "/v2/models/osa-default/infer",
        content=text + b"".join(tails),
        headers={JSON_LENGTH: str(len(text))},
    )
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        (output,) = answer.json()["outputs"]
        several = shape[0] if len(shape) == 3 else 1
        assert output["shape"][0] == (several if lengths is None else len(lengths))
        assert np.isfinite(elements).all()
