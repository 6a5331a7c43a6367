"""Launches of a batch on a GPU, counted with fake tensors: they cost more than the arithmetic."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest

from osa.model import EmbeddingModel
from osa.model.config import EncoderConfig

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from osa.model.functional.tiling import TOKEN_TILE, by_tiles
from osa.model.inference.bfloat16_linear import SUM_WIDTH, Bfloat16Linear
from osa.model.inference.device_pass import DevicePass
from osa.model.layers.mixers.osa import OsaMixer
from tests.launch_counter import count_pass

BATCHES = {
    "32 x 50": [50] * 32,
    "64 x 512": [512] * 64,
    "1 x 32768": [32768],
    "mixed": [3, 600, 64],
}
SMALL = EncoderConfig(
    vocab_size=30522, hidden_size=384, num_layers=3, num_heads=12, ffn_size=1536, mixer="osa",
    scale="length", qk_norm=True, positions="rotary", max_seq_len=32768,
)  # fmt: skip
LARGE = EncoderConfig(
    vocab_size=30522, hidden_size=768, num_layers=12, num_heads=12, ffn_size=3072, mixer="osa",
    scale="length", qk_norm=True, positions="rotary", max_seq_len=32768,
)  # fmt: skip


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize(("config", "most"), [(SMALL, 60), (LARGE, 220)])
def test_a_batch_takes_few_launches(
    config: EncoderConfig, most: int, name: str, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = count_pass(config, BATCHES[name], monkeypatch, fixed)
    assert launched.total() <= most, launched
    assert ("attend_short" in launched) == (min(BATCHES[name]) <= 64)
    assert ("reduce_products" in launched) == (max(BATCHES[name]) > 64)


@pytest.mark.parametrize(("config", "most"), [(SMALL, 60), (LARGE, 220)])
def test_completed_osa_takes_four_more_a_layer(
    config: EncoderConfig, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed = dataclasses.replace(config, osa_pool=True, osa_taps=3, osa_gate=True)
    for lengths in BATCHES.values():
        plain = count_pass(config, lengths, monkeypatch)
        launched = count_pass(completed, lengths, monkeypatch)
        assert launched.total() - plain.total() == 4 * config.num_layers
        assert launched["complete_rows"] == config.num_layers
        assert launched.total() <= most


def test_large_angles_alone_take_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    few = count_pass(SMALL, [512], monkeypatch)
    more = count_pass(SMALL, [512], monkeypatch, may_double=True)
    assert more - few == {"double_weights": SMALL.num_layers}
    assert more.total() <= 60


def test_angles_that_normed_heads_bound_are_not_doubled() -> None:
    model = EmbeddingModel.from_pretrained()
    usual = DevicePass(model, torch.float32)
    assert not any(layer.may_double for layer in usual._layers)
    with torch.no_grad():
        mixer = model.encoder.blocks[1].mixer
        assert isinstance(mixer, OsaMixer)
        mixer.alpha[3] = -1.4
    assert [layer.may_double for layer in DevicePass(model, torch.float32)._layers] == [
        False, True, False,
    ]  # fmt: skip


def test_work_on_a_gpu_is_not_cut_as_on_cpus() -> None:
    calls = []

    def double(part: torch.Tensor) -> tuple[torch.Tensor]:
        calls.append(part.shape)
        return (part + part,)

    for device, expected in (("cuda", 1), ("cpu", 3)):
        calls.clear()
        with FakeTensorMode(), torch.inference_mode():
            by_tiles(double, torch.empty(1, 3 * TOKEN_TILE, 8, device=device))
            linear = torch.nn.Linear(3 * SUM_WIDTH, 8, device="meta")
            linear.weight = torch.nn.Parameter(torch.empty(8, 3 * SUM_WIDTH, device=device))
            linear.bias = torch.nn.Parameter(torch.empty(8, device=device))
            parts = Bfloat16Linear(linear, keep_float32=False).parts()
        assert (len(calls), len(parts)) == (expected, expected)
