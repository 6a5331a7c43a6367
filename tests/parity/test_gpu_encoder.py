"""The device's pass against the model in float32: on a GPU, or in Triton's interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.parity.gpu_setup import CUDA, DEVICE  # chooses the interpreter first

from osa.model import EmbeddingModel  # isort: skip
from osa.model.config import EncoderConfig  # isort: skip
from osa.model.inference.device_graphs import DeviceRunner  # isort: skip
from osa.model.inference.device_pass import unfit  # isort: skip
from osa.model.kernels import use_kernel  # isort: skip
from osa.service.engines.base import Details  # isort: skip
from osa.service.engines.eager import EagerEngine  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of unused rows
ERROR = {torch.float32: 5e-7, torch.float16: 1e-3, torch.bfloat16: 6e-3}
SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_size": 128,
    "max_seq_len": 300,
    "mixer": "osa",
    "scale": "length",
}
BERT_LIKE: dict[str, Any] = {
    "center": True, "positions": "learned", "norm_type": "layer", "norm_place": "post",
    "norm_bias": True, "attention_bias": True, "ffn_up_bias": True, "ffn_down_bias": True,
    "token_types": 2, "embedding_norm": True, "pooling": "cls",
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "packaged": {"qk_norm": True, "positions": "rotary"},
    "bert": BERT_LIKE,
    "gated": {
        "num_layers": 1, "ffn_gated": True, "activation": "silu", "pooling": "weighted",
        "embedding_size": 48,
    },
    "skipless": {
        "residual": False, "activation": "gelu_tanh", "pooling": "last", "embedding_norm": True,
    },
    "converted": {
        **BERT_LIKE, "osa_pool": True, "osa_taps": 2, "osa_gate": True, "position_rows": 20,
    },
    "features": {"num_layers": 1, "vocab_size": None, "feature_size": 7, "activation": "relu"},
}  # fmt: skip
CASES = [
    ("packaged", torch.float32), ("bert", torch.float32), ("gated", torch.bfloat16),
    ("skipless", torch.float32), ("features", torch.float16), ("converted", torch.float32),
]  # fmt: skip
if CUDA:
    CASES = [(name, dtype) for name in MODELS for dtype in ERROR]


def make(name: str, **changes: Any) -> EmbeddingModel:
    config = EncoderConfig(**{**SHAPE, **MODELS[name], **changes})
    model = EmbeddingModel(config, generator=torch.Generator().manual_seed(1)).to(DEVICE).eval()
    for name, weight in model.named_parameters():  # which change nothing at the start
        if "completion" in name:
            weight.data += 0.3 * torch.randn(weight.shape).to(DEVICE)
    return model


def draw(model: EmbeddingModel, lengths: tuple[int, ...]) -> list[Any]:
    generator = np.random.default_rng(0)
    width = model.config.feature_size
    if width is not None:
        return [generator.standard_normal((n, width), dtype=np.float32) for n in lengths]
    return [generator.integers(0, model.config.num_ids, n).tolist() for n in lengths]


@pytest.mark.parametrize(("name", "dtype"), CASES)
@torch.inference_mode()
def test_vectors_are_those_of_the_model(name: str, dtype: torch.dtype) -> None:
    model = make(name)
    assert unfit(model, dtype) is None
    sequences = draw(model, (3, 70, 1))
    with use_kernel("torch"):
        packed, offsets = model.pack(sequences)
        hidden = model.encoder(packed, None, offsets)
        truth = model.finish(hidden, None, offsets)
    runner = DeviceRunner(model, dtype)
    embeddings, norms, states = runner.submit(sequences, with_states=True).wait()
    assert embeddings.shape == (3, model.config.output_size)
    assert np.abs(embeddings - truth.embeddings.cpu().numpy()).max() <= ERROR[dtype]
    assert norms == pytest.approx(truth.norms.cpu().numpy(), rel=8 * ERROR[dtype])
    tokens = model.project(hidden[0]).cpu().numpy()
    assert np.abs(states - tokens).max() <= 8 * ERROR[dtype] * np.abs(tokens).max()


@torch.inference_mode()
def test_bits_do_not_depend_on_the_batch() -> None:
    """In the interpreter numpy multiplies: bits depend on a row's place, which stays there."""
    model = make("packaged", num_layers=1)
    runner = DeviceRunner(model, torch.bfloat16)
    sequences = draw(model, (5, 65))
    for batch in (sequences, sequences[::-1]):
        together = runner.submit(batch).wait()
        for place, sequence in enumerate(batch[: None if CUDA else 1]):
            alone = runner.submit([sequence]).wait()
            assert np.array_equal(alone[0][0], together[0][place])
            assert alone[1][0] == together[1][place]


@torch.inference_mode()
def test_nan_stays_in_its_sequence() -> None:
    model = make("packaged", num_layers=1, num_heads=1, hidden_size=32, ffn_size=64)
    runner = DeviceRunner(model, torch.bfloat16)
    sequences = [[1, 2, 3], [4, 5, 49], [6] * 66]
    clean = runner.submit(sequences).wait()[0]
    embed = model.encoder.embed
    assert isinstance(embed, torch.nn.Embedding)
    embed.weight.data[49] = torch.nan
    broken = runner.submit(sequences).wait()[0]
    assert np.isnan(broken[1]).all()
    assert np.array_equal(clean[[0, 2]], broken[[0, 2]])


def test_an_engine_begins_a_batch_behind_another(tmp_path: Path) -> None:
    model = make("features", hidden_size=32, num_heads=1, ffn_size=32)
    model.save_pretrained(tmp_path / "model")
    engine = EagerEngine(tmp_path / "model", DEVICE)
    if not CUDA:
        assert not engine.stages_ahead
        engine._model, engine._runner = model, DeviceRunner(model, torch.float32)
    assert engine.stages_ahead
    batches = [draw(model, (3, 5)), draw(model, (2,))]
    details = [None, Details(token_vectors=True, spans=[[(0, 2)]])]
    begun = [engine.begin(*pair) for pair in zip(batches, details, strict=True)]
    first, second = (each.wait() for each in begun)
    assert all(each.is_ready() for each in begun)
    assert np.array_equal(first.embeddings, engine.embed(batches[0]).embeddings)
    assert first.token_vectors is None
    assert second.token_vectors is not None
    assert second.span_vectors is not None
    assert second.token_vectors[0].shape == (2, model.config.output_size)
    np.testing.assert_allclose(
        second.span_vectors[0][0], second.token_vectors[0].mean(0), atol=1e-6
    )


def test_what_does_not_fit_says_why() -> None:
    softmax = EmbeddingModel(EncoderConfig(**{**SHAPE, "mixer": "softmax", "scale": "paper"}))
    assert "mixer" in (unfit(softmax, torch.bfloat16) or "")
    narrow = EmbeddingModel(EncoderConfig(**{**SHAPE, "hidden_size": 32}))
    assert "width" in (unfit(narrow, torch.bfloat16) or "")
    with use_kernel("torch"):
        assert "kernel" in (unfit(make("packaged"), torch.bfloat16) or "")


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
@torch.inference_mode()
def test_graphs_serve_other_batches_of_their_shape() -> None:
    model = make("packaged")
    runner = DeviceRunner(model, torch.bfloat16)
    for lengths in ((3, 70, 1), (2, 69, 5), (4, 66, 4), (3, 70, 1)):
        sequences = draw(model, lengths)
        found = runner.submit(sequences).wait()[0]
        for place, sequence in enumerate(sequences):
            assert np.array_equal(found[place], runner.submit([sequence]).wait()[0][0])
    assert runner.num_graphs >= 1


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
@torch.inference_mode()
def test_nothing_waits_for_the_device() -> None:
    model = make("packaged")
    runner = DeviceRunner(model, torch.bfloat16)
    sequences = draw(model, (3, 70, 1))
    for _ in range(3):
        runner.submit(sequences).wait()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = [runner.submit(sequences) for _ in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    first, *others = (each.wait()[0] for each in pending)
    assert all(np.array_equal(first, other) for other in others)
