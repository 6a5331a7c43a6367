"""``osa train`` with texts that two processes share: the curve and the weights of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from osa.model import ConfigError, EmbeddingModel
from osa.model.embedding_model import PRETRAINED
from osa.model.training.config import load_config
from osa.model.training.distributed import Processes, divide
from tests.conftest import PATIENCE_S
from tests.training_worker import train

OBJECTIVES: dict[str, dict[str, Any]] = {
    "contrastive": {"osa_pool": True, "osa_taps": 2, "osa_gate": True, "alpha_init": 0.5},
    "mlm": {"pooling": "cls", "alpha_init": 0.5},
    "classify": {"pooling": "weighted", "center": True, "alpha_init": 0.5},
}
RECIPE = """
objective = "{objective}"
bf16 = false
tokenizer = "{tokenizer}"
[model]
hidden_size = 16
num_layers = 2
num_heads = 2
ffn_size = 24
max_seq_len = 1024
{model}
[data]
files = ["{directory}/data.jsonl"]
cache = "{directory}/cache"
max_tokens = 700
[optimizer]
steps = 3
batch_size = 4
chunk_tokens = 900
warmup = 1
[report]
log_every = 1
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with texts of 1 to 700 tokens, and a recipe for each objective."""
    directory = tmp_path_factory.mktemp("shared")
    words = ["cat", "dog", "horse", "sheep", "goose", "hen", "fox", "bear", "barn", "river"]
    generator = np.random.default_rng(0)
    lengths = (5, 690, 300, 620, 255, 480, 40, 520)
    texts = [" ".join(generator.choice(words, length)) for length in lengths]
    rows = [
        {"text": text, "anchor": text, "positive": f"a {text[:900]}", "label": place % 2}
        for place, text in enumerate(texts)
    ]
    (directory / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for objective, model in OBJECTIVES.items():
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in model.items())
        (directory / f"{objective}.toml").write_text(
            RECIPE.format(
                objective=objective,
                tokenizer=PRETRAINED / "tokenizer.json",
                model=lines,
                directory=directory,
            )
        )
    return directory


def losses(output: Path) -> list[float]:
    file = output.parent / f"{output.name}.run" / "metrics.csv"
    header, *rows = (line.split(",") for line in file.read_text().splitlines())
    return [float(row[header.index("loss")]) for row in rows]


def test_two_processes_share_texts_and_follow_the_curve_of_one(recipes: Path) -> None:
    for objective in OBJECTIVES:
        assert train(recipes / f"{objective}.toml", recipes / objective) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", "tests.training_worker", str(recipes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for objective in OBJECTIVES:
        one, both = recipes / objective, recipes / f"shared-{objective}"
        assert losses(both) == pytest.approx(losses(one), rel=1e-4)
        assert len(losses(one)) == 3
        states = [EmbeddingModel.from_pretrained(path).state_dict() for path in (one, both)]
        for name, tensor in states[0].items():
            torch.testing.assert_close(states[1][name], tensor, atol=2e-4, rtol=1e-2, msg=name)


def test_processes_that_are_no_whole_number_of_groups_are_refused(recipes: Path) -> None:
    alone = Processes(0, 1, torch.device("cpu"))
    assert divide(alone, 1) == (alone, None)
    with pytest.raises(ConfigError, match=r"sequence_parallel \(2\) must divide .* \(1\)"):
        divide(alone, 2)
    settings = ["sequence_parallel=2", 'parallel="fsdp"']
    with pytest.raises(ConfigError, match="set parallel to ddp"):
        load_config(recipes / "mlm.toml", settings)


def test_texts_may_be_shared_by_more_after_a_stop(recipes: Path) -> None:
    """The number of processes does not decide the weights but for rounding."""
    file = recipes / "mlm.toml"
    digests = {load_config(file, [f"sequence_parallel={size}"]).digest() for size in (1, 2)}
    assert len(digests) == 1
