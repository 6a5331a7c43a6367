"""One sequence over 2 and 4 processes: vector and gradients of one, messages of fixed size."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from osa.model import ConfigError, EmbeddingModel, EncoderConfig
from osa.model.streaming.parallel import SequenceGroup, embed_part
from tests.conftest import PATIENCE_S
from tests.sequence_worker import (
    LENGTHS,
    OPTIONS,
    TINY,
    gradients,
    ids_of,
    loss_of,
    make_model,
)


def launch(processes: int, module: str, *arguments: str) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", "-m", module, *arguments,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_sequence(processes: int, tmp_path: Path) -> None:
    launch(processes, "tests.sequence_worker", str(tmp_path / "found.npz"))
    found: Mapping[str, np.ndarray] = dict(np.load(tmp_path / "found.npz"))
    for number in range(len(OPTIONS)):
        for length in (LENGTHS[0], TINY):
            model = make_model(number).double()
            whole = model(ids_of(length)[None]).embeddings
            loss_of(whole).backward()
            scale = np.abs(gradients(model)).max()
            difference = np.abs(found[f"gradient {number} {length}"] - gradients(model)).max()
            assert difference < 1e-9 * scale
        single = make_model(number).eval()
        for length in (*LENGTHS, TINY):
            alone = single.encode_stream([ids_of(length).numpy()])
            assert np.abs(found[f"vector {number} {length}"] - alone.numpy()).max() < 1e-6
        short, long = (found[f"messages {number} {length}"] for length in LENGTHS)
        assert np.array_equal(short, long)
        rounds = 2 if OPTIONS[number].get("center") else 1
        rounds += 4 if single.config.is_completed else 0  # of the pool three, of neighbours one
        assert len(short) == single.config.num_layers * rounds + 1


def test_osa_embed_shares_long_texts(tiny_checkpoint: Path, tmp_path: Path) -> None:
    texts = ["cat", "cat dog " * 2000, "dog", "dog cat cat " * 500]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    arguments = [
        "osa.service.cli", "embed", str(tmp_path / "texts.jsonl"),
        "--output", str(tmp_path / "found.parquet"),
        "--set", f"model.path={tiny_checkpoint}", "--set", "model.max_input_length=100000",
        "--set", "model.dtype=float32",
    ]  # fmt: skip
    launch(2, *arguments)
    rows = pq.read_table(tmp_path / "found.parquet")["embedding"].to_pylist()
    model = EmbeddingModel.from_pretrained(tiny_checkpoint)
    for text, row in zip(texts, rows, strict=True):
        assert np.abs(model.encode_stream(text).numpy() - np.array(row)).max() < 1e-6


def test_parts_cover_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 255, 3000, 20_001, 1_000_000):
        for size in (1, 3, 8):
            monkeypatch.setattr(SequenceGroup, "size", size)
            bounds = []
            for rank in range(size):
                monkeypatch.setattr(SequenceGroup, "rank", rank)
                bounds.append(SequenceGroup().part(count))
            assert bounds[0][0] == 0
            assert bounds[-1][1] == count
            assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))
            assert all(first % 256 == 0 for first, stop in bounds if first < count)
            if count >= size * 8192:
                sizes = [stop - first for first, stop in bounds]
                assert max(sizes) - min(sizes) <= 2 * 4096


def test_mixers_without_sums_are_refused() -> None:
    config = EncoderConfig(
        vocab_size=9, hidden_size=8, num_layers=1, num_heads=1, ffn_size=8, mixer="softmax"
    )
    with pytest.raises(ConfigError, match="the softmax mixer cannot take a text in chunks"):
        embed_part(EmbeddingModel(config), torch.tensor([1, 2]), 0, 2, SequenceGroup())
