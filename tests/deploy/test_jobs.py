"""The jobs' commands are ones that the project's own command line takes."""

from __future__ import annotations

import argparse
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from osa.model.training import cli
from osa.model.training.config import load_config
from osa.model.training.loop import STATE
from tests.deploy.chart import Object, case_values, of_kind, render, rendered_case


def job(case: str, component: str) -> Object:
    (found,) = [
        item
        for item in of_kind(rendered_case(case), "Job")
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return found


def command(item: Object) -> list[str]:
    (box,) = item["spec"]["template"]["spec"]["containers"]
    found: list[str] = box["command"]
    return found


def train_arguments(words: list[str]) -> Any:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(words[words.index("train") + 1 :])


def test_a_training_on_one_process_needs_no_torchrun() -> None:
    words = command(job("jobs", "train"))
    assert "torchrun" not in words
    options = train_arguments(words)
    assert str(options.config) == "default"
    assert options.output == Path("/output/model")


def test_a_training_on_two_nodes_meets_at_the_first_pod() -> None:
    item = job("train", "train")
    name, words = item["metadata"]["name"], command(item)
    assert item["spec"]["completionMode"] == "Indexed"
    assert item["spec"]["completions"] == item["spec"]["parallelism"] == 2
    assert "--nnodes=2" in words
    assert "--nproc-per-node=4" in words
    assert "--node-rank=$(JOB_COMPLETION_INDEX)" in words
    assert f"--master-addr={name}-0.{name}" in words
    (service,) = of_kind(rendered_case("train"), "Service")
    assert service["metadata"]["name"] == item["spec"]["template"]["spec"]["subdomain"] == name
    assert service["spec"]["clusterIP"] == "None"
    (box,) = item["spec"]["template"]["spec"]["containers"]
    assert box["resources"]["limits"]["nvidia.com/gpu"] == 4
    options = train_arguments(words)
    assert options.set == ["optimizer.steps=400"]
    assert str(options.config) == "/etc/osa/train/train.toml"


def test_the_mounted_configuration_is_the_one_that_was_written(tmp_path: Path) -> None:
    (text,) = [item["data"]["train.toml"] for item in of_kind(rendered_case("train"), "ConfigMap")]
    assert tomllib.loads(text) == tomllib.loads(case_values("train")["train"]["configToml"])
    file = tmp_path / "train.toml"
    file.write_text(text)
    config = load_config(file, train_arguments(command(job("train", "train"))).set)
    assert (config.objective, config.optimizer.steps) == ("contrastive", 400)


@pytest.mark.parametrize("saved", [False, True])
def test_a_pod_that_starts_again_resumes(tmp_path: Path, saved: bool) -> None:
    shell, flag, script, *rest = command(job("jobs", "train"))
    output = rest[rest.index("--output") + 1]
    if saved:
        (tmp_path / "model.run" / STATE).mkdir(parents=True)
    local = script.replace(output, str(tmp_path / "model"))
    done = subprocess.run([shell, flag, local, "name", "echo"], capture_output=True, text=True)
    assert done.stdout.split() == (["--resume"] if saved else [])


def test_other_values_make_another_job() -> None:
    """Kubernetes refuses changes of a job; the name follows from what it runs."""
    values = case_values("train")
    changed = {**values, "train": {**values["train"], "set": ["optimizer.steps=800"]}}
    (one,), (same,), (other,) = (
        of_kind(render(v), "Job") for v in (values, {**values, "commonLabels": {"a": "b"}}, changed)
    )
    assert one["metadata"]["name"] == same["metadata"]["name"] != other["metadata"]["name"]


def test_bulk_embedding_reads_and_writes_the_claims() -> None:
    item = job("jobs", "embed")
    words = command(item)
    assert words[:4] == ["osa", "embed", "/data/a.jsonl", "/data/b.parquet"]
    assert words[words.index("--output") + 1] == "/output/vectors.parquet"
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in item["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"data": "texts", "output": "vectors"}
