"""``osa::OrthogonalAttention`` in ONNX: body = native kernel = the dense truth, in every form."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from osa.export.onnx_model.operator_schema import schemas
from osa.model.functional.attention import osa_dense
from tests.onnx_operator import operator_model, session, states

HEADS, WIDTH = 2, 8
LENGTHS = (1, 2, 5, 15, 16, 17, 33, 100)
Run = Callable[[onnx.ModelProto, dict[str, np.ndarray]], np.ndarray]


def run_evaluator(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    results: Any = ReferenceEvaluator(model).run(None, feeds)
    found: np.ndarray = results[0]
    return found


def run_body(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    result: np.ndarray = session(model, None).run(None, feeds)[0]
    return result


@pytest.fixture(params=["onnx's evaluator", "body", "native"])
def run(request: pytest.FixtureRequest) -> Run:
    """What runs the operator."""
    if request.param == "onnx's evaluator":
        return run_evaluator
    if request.param == "body":
        return run_body
    library: Path = request.getfixturevalue("ort_library")
    return lambda model, feeds: session(model, library).run(None, feeds)[0]


def dense(
    feeds: dict[str, np.ndarray], row: int, tokens: np.ndarray, scale: str, center: bool
) -> np.ndarray:
    """The truth for the tokens of one sequence [n, H, d], in float64."""
    query, key, value = (
        torch.from_numpy(feeds[name][row][tokens]).double().transpose(0, 1)[None] for name in "qkv"
    )
    alpha = torch.from_numpy(feeds["alpha"]).double()
    mixed = osa_dense(query, key, value, alpha, scale=scale, center=center)
    return mixed[0].transpose(0, 1).numpy()


def angles(alpha: float) -> np.ndarray:
    return np.array([alpha, -alpha / 3], dtype=np.float32)


@pytest.mark.parametrize(("scale", "center"), [("paper", 0), ("length", 0), ("length", 1)])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
def test_packed_sequences_are_the_dense_truth(
    run: Run, alpha: float, scale: str, center: int
) -> None:
    generator = np.random.default_rng(0)
    offsets = np.cumsum([0, *LENGTHS[:4], 0, *LENGTHS[4:]], dtype=np.int32)
    feeds = states(generator, 1, int(offsets[-1]), HEADS, WIDTH) | {
        "alpha": angles(alpha if scale == "length" else alpha / 20),
        "cu_seqlens": offsets,
    }
    model = operator_model("packed", HEADS, WIDTH, scale=scale, center=center)
    found = run(model, feeds)
    assert found.shape == feeds["q"].shape
    for start, stop in itertools.pairwise(offsets):
        expected = dense(feeds, 0, np.arange(start, stop), scale, bool(center))
        np.testing.assert_allclose(found[0, start:stop], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("scale", "center"), [("paper", 0), ("length", 1)])
@pytest.mark.parametrize("length", [9, 40])
def test_padding_anywhere_changes_nothing_and_comes_out_as_zero(
    run: Run, length: int, scale: str, center: int
) -> None:
    generator = np.random.default_rng(1)
    mask = generator.random((4, length)) < 0.6
    mask[0] = True
    mask[3] = False
    feeds = states(generator, 4, length, HEADS, WIDTH) | {"alpha": angles(0.2), "mask": mask}
    for name in "qkv":
        feeds[name][~mask] = np.nan  # nothing of padding may be read
    found = run(operator_model("padded", HEADS, WIDTH, scale=scale, center=center), feeds)
    assert not found[~mask].any()
    for row in range(3):
        expected = dense(feeds, row, mask[row].nonzero()[0], scale, bool(center))
        np.testing.assert_allclose(found[row][mask[row]], expected, atol=2e-5, rtol=0)


def test_large_angles_are_squared_up(run: Run) -> None:
    """Beyond the series alone: dozens of radians, by as many squarings as it takes."""
    generator = np.random.default_rng(2)
    offsets = np.array([0, 12, 60], dtype=np.int32)
    feeds = states(generator, 1, 60, HEADS, WIDTH) | {
        "alpha": angles(1.0),
        "cu_seqlens": offsets,
    }
    found = run(operator_model("packed", HEADS, WIDTH, scale="paper"), feeds)
    for start, stop in ((0, 12), (12, 60)):
        expected = dense(feeds, 0, np.arange(start, stop), "paper", False)
        np.testing.assert_allclose(found[0, start:stop], expected, atol=3e-4, rtol=0)


def test_strongly_correlated_tokens_do_not_cancel(run: Run) -> None:
    """C G J is far larger than the angle, so float32 alone would lose all digits."""
    generator = np.random.default_rng(3)
    feeds = states(generator, 1, 200, HEADS, WIDTH)
    for name in "qk":
        feeds[name] = feeds[name] * np.float32(0.02) + np.float32(1.0)
    feeds |= {"alpha": angles(1.0), "cu_seqlens": np.array([0, 200], dtype=np.int32)}
    found = run(operator_model("packed", HEADS, WIDTH, scale="paper"), feeds)
    expected = dense(feeds, 0, np.arange(200), "paper", False)
    np.testing.assert_allclose(found[0], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), [(TensorProto.FLOAT16, np.float16, 4e-3)])
def test_half_precision_states_come_out_in_their_own_type(
    run: Run, dtype: int, kind: type, tolerance: float
) -> None:
    generator = np.random.default_rng(4)
    feeds = states(generator, 1, 40, HEADS, WIDTH)
    feeds = {name: value.astype(kind) for name, value in feeds.items()}
    feeds |= {"alpha": angles(0.5), "cu_seqlens": np.array([0, 10, 40], dtype=np.int32)}
    found = run(operator_model("packed", HEADS, WIDTH, dtype, scale="length"), feeds)
    assert found.dtype == kind
    for start, stop in ((0, 10), (10, 40)):
        expected = dense(feeds, 0, np.arange(start, stop), "length", False)
        np.testing.assert_allclose(found[0, start:stop], expected, atol=tolerance, rtol=0)


def test_without_attributes_the_schemas_defaults_hold(ort_library: Path) -> None:
    generator = np.random.default_rng(7)
    feeds = states(generator, 1, 30, HEADS, WIDTH) | {"alpha": angles(0.1)}
    feeds["cu_seqlens"] = np.array([0, 30], dtype=np.int32)
    expected = dense(feeds, 0, np.arange(30), "paper", False)
    for library in (None, ort_library):
        found = session(operator_model("packed", HEADS, WIDTH, scale=None), library)
        np.testing.assert_allclose(found.run(None, feeds)[0][0], expected, atol=2e-5, rtol=0)


def test_a_batch_without_a_sequence_is_empty(run: Run) -> None:
    feeds = {name: np.zeros((1, 0, HEADS, WIDTH), dtype=np.float32) for name in "qkv"}
    feeds |= {"alpha": angles(0.5), "cu_seqlens": np.array([0], dtype=np.int32)}
    assert run(operator_model("packed", HEADS, WIDTH), feeds).shape == (1, 0, HEADS, WIDTH)


def test_the_native_kernel_gives_the_same_bits_on_any_number_of_threads(ort_library: Path) -> None:
    generator = np.random.default_rng(5)
    feeds = states(generator, 1, 5000, HEADS, WIDTH) | {
        "alpha": angles(0.5),
        "cu_seqlens": np.array([0, 3, 700, 5000], dtype=np.int32),
    }
    model = operator_model("packed", HEADS, WIDTH, scale="length", body=False)
    one, many = (session(model, ort_library, threads).run(None, feeds)[0] for threads in (1, 4))
    np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cu_seqlens": [0, 5, 3, 10]}, "cu_seqlens must rise"),
        ({"cu_seqlens": [1, 10]}, "cu_seqlens must rise"),
        ({"cu_seqlens": [0, 11]}, "cu_seqlens must rise"),
        ({"alpha": [0.5, 0.5, 0.5]}, "one number a head"),
    ],
)
def test_the_native_kernel_refuses_what_does_not_fit(
    ort_library: Path, change: dict[str, list[float]], message: str
) -> None:
    generator = np.random.default_rng(6)
    feeds = states(generator, 1, 10, HEADS, WIDTH)
    feeds |= {"alpha": angles(0.5), "cu_seqlens": np.array([0, 10], dtype=np.int32)}
    for name, values in change.items():
        feeds[name] = np.array(values, dtype=feeds[name].dtype)
    model = operator_model("packed", HEADS, WIDTH, body=False)
    model.graph.input[3].type.tensor_type.shape.dim[0].dim_param = "heads"
    with pytest.raises(Exception, match=message):
        session(model, ort_library).run(None, feeds)


def test_an_unknown_scale_is_refused_when_the_session_is_made(ort_library: Path) -> None:
    with pytest.raises(Exception, match="scale must be paper or length, got width"):
        session(operator_model("packed", HEADS, WIDTH, scale="width", body=False), ort_library)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_schema_check_and_strict_inference_pass(layout: str) -> None:
    model = operator_model(layout, HEADS, WIDTH)  # type: ignore[arg-type]
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert [size.dim_value for size in inferred.graph.output[0].type.tensor_type.shape.dim][2:] == [
        HEADS,
        WIDTH,
    ]
    assert all(each.has_type_and_shape_inference_function for each in schemas().values())


def test_without_body_and_library_the_runtime_says_so() -> None:
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="OrthogonalAttention"):
        session(operator_model("packed", HEADS, WIDTH, body=False), None)
