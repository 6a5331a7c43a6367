"""``torchrun`` with two processes: the same loss curve as one, and a failure ends the run."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from osa.model import EmbeddingModel
from osa.model.embedding_model import PRETRAINED
from osa.service.cli import main
from tests.conftest import PATIENCE_S, free_port, wait_until
from tests.deploy.chart import of_kind, rendered_case

TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    "-m", "osa.service.cli",
]  # fmt: skip
ALONE = [sys.executable, "-m", "osa.service.cli"]
BOTTLENECK = 'bottleneck = "rank_reduction"\nbottleneck_size = 8'
"""Its directions are those of the vectors of all processes."""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data and one recipe for each kind of objective."""
    directory = tmp_path_factory.mktemp("distributed")
    words = ["cat", "dog", "horse", "sheep", "goose", "hen", "fox", "bear", "barn", "river"]
    generator = np.random.default_rng(0)
    phrases = [" ".join(generator.choice(words, 3 + i % 9)) for i in range(96)]
    pairs = [
        {
            "text": text,
            "anchor": text,
            "positive": f"a {text}",
            "negative": text[:9] if i % 3 else None,
        }
        for i, text in enumerate(phrases)
    ]
    (directory / "data.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    for objective in ("contrastive", "mlm"):
        (directory / f"{objective}.toml").write_text(
            f"""
objective = "{objective}"
bf16 = false
tokenizer = "{PRETRAINED}/tokenizer.json"
[model]
hidden_size = 32
num_layers = 2
num_heads = 2
ffn_size = 64
{BOTTLENECK if objective == "contrastive" else ""}
[data]
files = ["{directory}/data.jsonl"]
held_out = ["{directory}/data.jsonl"]
cache = "{directory}/cache"
max_tokens = 32
[optimizer]
steps = 12
batch_size = 18
chunk_tokens = 60
warmup = 2
ema = 0.8
[report]
log_every = 1
save_every = 5
evaluate_every = 6
"""
        )
    return directory


def command(recipes: Path, objective: str, output: Path, *more: str) -> list[str]:
    config = ["train", "--config", str(recipes / f"{objective}.toml"), "--output", str(output)]
    return [*config, "--quiet", "--dtype", "float32", *more]


@contextmanager
def started(command: list[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that leaves no children behind."""
    environment = {**ENVIRONMENT, **variables}
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(launcher: list[str], arguments: list[str], **variables: str) -> tuple[int, str]:
    """Exit code and errors."""
    with started([*launcher, *arguments], **variables) as process:
        _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors


def columns(output: Path) -> dict[str, list[float]]:
    file = output.parent / f"{output.name}.run" / "metrics.csv"
    header, *rows = (line.split(",") for line in file.read_text().splitlines())
    return {
        name: [float(row[place]) for row in rows if row[place]] for place, name in enumerate(header)
    }


@pytest.fixture(scope="module")
def alone(recipes: Path) -> Callable[[str], Path]:
    """The model of one process by objective, trained once, in this one."""

    @functools.cache
    def train(objective: str) -> Path:
        output = recipes / f"alone-{objective}"
        assert main(command(recipes, objective, output)) == 0
        return output

    return train


@pytest.mark.parametrize(
    ("objective", "parallel"), [("contrastive", "ddp"), ("contrastive", "fsdp"), ("mlm", "ddp")]
)
def test_two_processes_follow_the_curve_of_one(
    recipes: Path, tmp_path: Path, alone: Callable[[str], Path], objective: str, parallel: str
) -> None:
    one, two = alone(objective), tmp_path / "two"
    both = command(recipes, objective, two, "--set", f"parallel={parallel}")
    code, errors = run(TORCHRUN, both)
    assert code == 0, errors
    left, right = columns(one), columns(two)
    assert left["step"] == right["step"] == list(range(1, 13))
    assert left["tokens"] == right["tokens"]
    for name in left:
        assert right[name] == pytest.approx(left[name], rel=2e-3, abs=1e-4), name
    weights = [EmbeddingModel.from_pretrained(path).state_dict() for path in (one, two)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=2e-3, rtol=2e-2, msg=name)


def workers(output: Path) -> dict[int, int]:
    """Processes of a run by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "environ").read_bytes()
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(output).encode() in line and b"\0RANK=" in told:
                rank = told.split(b"\0RANK=")[1].split(b"\0")[0]
                found[int(rank)] = int(entry.name)
    return found


def test_a_dead_process_ends_the_run_with_an_error_and_a_state_to_resume_from(
    recipes: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    arguments = command(recipes, "contrastive", output, "--set", "optimizer.steps=2000")
    state = tmp_path / "model.run" / "state" / "progress.json"
    with started([*TORCHRUN, *arguments]) as process:
        wait_until(lambda: process.poll() is not None or state.exists())
        os.kill(workers(output)[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "process 0 lost another process at update" in errors
    assert "run the same command with --resume to go on" in errors
    done = json.loads(state.read_text())["step"]
    assert done >= 5
    with started([*ALONE, *arguments, "--resume"]) as process:  # alone, now
        wait_until(
            lambda: process.poll() is not None or json.loads(state.read_text())["step"] > done,
        )
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert "stopped by signal 15 after update" in errors
    steps = columns(output)["step"]
    assert steps == list(range(1, len(steps) + 1)), "no update is lost or doubled"
    assert len(steps) > done


def on_two_nodes(restarts: int = 0) -> tuple[list[str], dict[str, str]]:
    """Launcher and variables of each of two nodes of two processes, as the chart's job has them."""
    (item,) = of_kind(rendered_case("train"), "Job")
    (box,) = item["spec"]["template"]["spec"]["containers"]
    words = box["command"]
    given = [word.partition("=") for word in words[words.index("torchrun") + 1 : words.index("-m")]]
    told = {
        "--nproc-per-node": "2",
        "--rdzv-endpoint": f"127.0.0.1:{free_port()}",
        "--max-restarts": str(restarts),
    }
    assert told.keys() <= {name for name, _, _ in given}
    own = [f"{name}={told.get(name, value)}" for name, _, value in given]
    told_by = {entry["name"]: entry.get("value", "") for entry in box["env"]}
    variables = {name: value for name, value in told_by.items() if name.startswith("TORCH_")}
    return [sys.executable, "-m", "torch.distributed.run", *own, *ALONE[1:]], variables


def test_two_nodes_of_two_follow_the_curve_of_one(
    recipes: Path, tmp_path: Path, alone: Callable[[str], Path]
) -> None:
    arguments = command(recipes, "contrastive", tmp_path / "four")
    launcher, variables = on_two_nodes()
    with started([*launcher, *arguments], **variables) as other:
        code, errors = run(launcher, arguments, **variables)
        _, more = other.communicate(timeout=PATIENCE_S)
        assert (code, other.returncode) == (0, 0), errors + more
    left, right = columns(alone("contrastive")), columns(tmp_path / "four")
    assert left["step"] == right["step"]
    assert left["tokens"] == right["tokens"], "together they read what one reads"
    for name in left:
        assert right[name] == pytest.approx(left[name], rel=2e-3, abs=1e-4), name
    record = json.loads((tmp_path / "four" / "training.json").read_text())
    assert record["machine"]["processes"] == 4


def test_a_worker_that_dies_is_started_again_from_the_last_state(
    recipes: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    more = ("--set", "optimizer.steps=120")
    arguments = command(recipes, "contrastive", output, *more)
    state = tmp_path / "model.run" / "state" / "progress.json"
    launcher, variables = on_two_nodes(restarts=2)
    both = [*launcher, *arguments]
    with started(both, **variables) as process, started(both, **variables) as other:
        wait_until(lambda: process.poll() is not None or state.exists())
        os.kill(workers(output)[3], signal.SIGKILL)
        at = json.loads(state.read_text())["step"]
        _, errors = process.communicate(timeout=PATIENCE_S)
        _, more_errors = other.communicate(timeout=PATIENCE_S)
        errors += more_errors
        assert (process.returncode, other.returncode) == (0, 0), errors
    assert 5 <= at < 120
    assert columns(output)["step"] == list(range(1, 121)), "no update is lost or doubled"
    assert main(command(recipes, "contrastive", tmp_path / "one", *more)) == 0
    left, right = columns(tmp_path / "one"), columns(output)
    assert right["loss"] == pytest.approx(left["loss"], rel=5e-3, abs=1e-3)


def test_a_batch_smaller_than_the_processes_is_refused(recipes: Path, tmp_path: Path) -> None:
    arguments = command(recipes, "mlm", tmp_path / "model", "--set", "optimizer.batch_size=2")
    launcher = [part if part != "2" else "3" for part in TORCHRUN]
    code, errors = run(launcher, arguments)
    assert code != 0
    assert "optimizer.batch_size (2) must be at least the number of processes (3)" in errors
