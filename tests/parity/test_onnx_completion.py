"""``osa::CompletedAttention`` in ONNX: evaluator = body = native kernel = torch, in every form."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from osa.export.onnx_model.completion_body import Form
from osa.model import ops
from osa.model.kernels import native, use_kernel
from tests.onnx_operator import operator_model, session, states
from tests.parity.test_onnx_operator import Run
from tests.parity.test_onnx_operator import run as run

HEADS, WIDTH, REACH = 2, 8, 2
FORMS = [Form(*flags) for flags in itertools.product((False, True), repeat=3)]
FULL = Form(pool=True, taps=True, gated=True)
LENGTHS = (1, 2, 16, 17, 40)


def feeds_of(form: Form, batch: int, length: int) -> dict[str, np.ndarray]:
    """Random states and terms of a form."""
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    count = int(form.pool) + (2 + int(form.pool)) * int(form.gated)
    terms = {
        "identity": draw(HEADS), "mixed": draw(HEADS), "pool": draw(HEADS),
        "taps": draw(HEADS, 2 * REACH), "side": draw(batch, length, HEADS * count),
    }  # fmt: skip
    given = {name: value for name, value in terms.items() if name not in form.absent}
    feeds = states(generator, batch, length, HEADS, WIDTH)
    return feeds | given | {"alpha": np.array([0.3, -0.1], dtype=np.float32)}


def eager(feeds: dict[str, np.ndarray], form: Form, **options: Any) -> np.ndarray:
    """The operator in torch, on the same memory; ``float64`` is the truth."""
    kind = options.pop("dtype", torch.float32)
    given = {name: torch.from_numpy(value) for name, value in feeds.items()}
    parts = [given[name].transpose(1, 2).to(kind) for name in "qkv"]
    names = ("alpha", "identity", "mixed", "pool", "taps", "side")
    weights = [None if name not in given else given[name].to(kind) for name in names]
    places = given.get("mask"), given.get("cu_seqlens")
    flags = options.get("scale", "length"), bool(options.get("center", 0)), form.gated
    found: torch.Tensor = ops.completed_attention(*parts, *weights, *places, *flags)
    return found.transpose(1, 2).numpy()


def packed_feeds(form: Form) -> dict[str, np.ndarray]:
    offsets = np.cumsum([0, *LENGTHS[:2], 0, *LENGTHS[2:]], dtype=np.int32)
    return feeds_of(form, 1, int(offsets[-1])) | {"cu_seqlens": offsets}


def padded_feeds(form: Form) -> dict[str, np.ndarray]:
    """Full, with holes, on both sides, without a token; what is in padding is no number."""
    mask = np.random.default_rng(1).random((4, 37)) < 0.6
    mask[0], mask[2], mask[3, :9], mask[3, 30:] = True, False, False, False
    feeds = feeds_of(form, *mask.shape) | {"mask": mask}
    for name in ("q", "k", "v", *({"side"} & set(feeds))):
        feeds[name][~mask] = np.nan
    return feeds


FEEDS = {"packed": packed_feeds, "padded": padded_feeds}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_every_form_is_the_operator_of_torch(run: Run, layout: Any, form: Form) -> None:
    feeds = FEEDS[layout](form)
    found = run(operator_model(layout, HEADS, WIDTH, form=form, scale="length"), feeds)
    with use_kernel("torch"):
        expected = eager(feeds, form, dtype=torch.float64)
    real = feeds.get("mask", np.ones(feeds["v"].shape[:2], dtype=bool))
    np.testing.assert_allclose(found[real], expected[real], atol=2e-5, rtol=1e-5)
    assert not found[~real].any()


@pytest.mark.skipif(isinstance(native.library(), str), reason="no CPU kernel")
@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_native_node_has_the_bits_of_the_eager_engine(
    ort_library: Path, layout: Any, threads: int
) -> None:
    feeds = FEEDS[layout](FULL)
    model = operator_model(layout, HEADS, WIDTH, body=False, form=FULL, scale="paper", center=1)
    found = session(model, ort_library, threads).run(None, feeds)[0]
    with use_kernel("native"):
        expected = eager(feeds, FULL, scale="paper", center=1)
    real = feeds.get("mask", np.ones(feeds["v"].shape[:2], dtype=bool))
    np.testing.assert_array_equal(found[real], expected[real])


def test_half_precision_states_come_out_in_their_own_type(run: Run) -> None:
    feeds = packed_feeds(FULL)
    expected = eager(feeds, FULL, dtype=torch.float64)
    halves = {name: feeds[name].astype(np.float16) for name in "qkv"}
    model = operator_model("packed", HEADS, WIDTH, TensorProto.FLOAT16, form=FULL, scale="length")
    found = run(model, feeds | halves)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=2e-2, rtol=4e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": (1, 76, 7)}, r"side must be \[1, 76, 8\].* got \[1, 76, 7\]"),
        ({"taps": (HEADS, 3)}, r"taps must be \[H, 2 R\], got \[2, 3\] with 2 heads"),
        ({"pool": (3,)}, "pool must be one number a head, got"),
    ],
)
def test_the_native_node_refuses_terms_that_do_not_fit(
    ort_library: Path, change: dict[str, tuple[int, ...]], message: str
) -> None:
    feeds = packed_feeds(FULL)
    for name, shape in change.items():
        feeds[name] = np.zeros(shape, dtype=np.float32)
    model = operator_model("packed", HEADS, WIDTH, body=False, form=FULL)
    for value in model.graph.input:
        if value.name in change:
            for size in value.type.tensor_type.shape.dim:
                size.Clear()
    with pytest.raises(Exception, match=message):
        session(model, ort_library).run(None, feeds)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_schema_check_and_strict_inference_pass(layout: Any) -> None:
    model = operator_model(layout, HEADS, WIDTH, form=FULL)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


@pytest.mark.parametrize("form", [None, FULL], ids=str)
def test_sizes_that_the_runtime_does_not_know_are_not_told_on(
    ort_library: Path, form: Form | None
) -> None:
    """The output's shape is that of the query; -1 in it is no size, and fits no other."""
    model = operator_model("packed", HEADS, WIDTH, body=False, form=form, scale="length")
    for value in model.graph.input:
        if value.name in ("q", "k", "v"):
            value.type.tensor_type.shape.dim[1].Clear()
    gate = onnx.helper.make_tensor_value_info("gate", TensorProto.FLOAT, ["batch", "tokens", 1, 1])
    model.graph.input.append(gate)
    model.graph.node.append(onnx.helper.make_node("Mul", ["y", "gate"], ["gated"]))
    model.graph.output[0].name = "gated"
    feeds = packed_feeds(form or FULL)
    length = feeds["v"].shape[1]
    if form is None:
        feeds = {name: feeds[name] for name in ("q", "k", "v", "alpha", "cu_seqlens")}
    feeds["gate"] = np.full((1, length, 1, 1), 2, dtype=np.float32)
    found = session(model, ort_library).run(None, feeds)[0]
    assert found.shape == feeds["v"].shape
    assert np.isfinite(found).all()
