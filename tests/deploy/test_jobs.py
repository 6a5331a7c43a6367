"""The jobs' commands are valid for the project's command line."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pyarrow
import pyarrow.parquet
import pytest

from osa.model.training import cli
from osa.model.training.config import load_config
from osa.model.training.request import STATE
from osa.service.bulk import options as embed_options
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
    assert "--max-restarts=3" in words
    assert "--rdzv-backend=c10d" in words
    assert f"--rdzv-endpoint={name}-0.{name}:29500" in words
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
    _, _, shell, flag, script, *rest = command(job("jobs", "train"))
    output = rest[rest.index("--output") + 1]
    if saved:
        (tmp_path / "model.run" / STATE).mkdir(parents=True)
    local = script.replace(output, str(tmp_path / "model"))
    done = subprocess.run([shell, flag, local, "name", "echo"], capture_output=True, text=True)
    assert done.stdout.split() == (["--resume"] if saved else [])


def test_other_values_make_another_job() -> None:
    """Kubernetes refuses changes of a job; its name has a hash of its values."""
    values = case_values("train")
    changed = {**values, "train": {**values["train"], "set": ["optimizer.steps=800"]}}
    (one,), (same,), (other,) = (
        of_kind(render(v), "Job") for v in (values, {**values, "commonLabels": {"a": "b"}}, changed)
    )
    assert one["metadata"]["name"] == same["metadata"]["name"] != other["metadata"]["name"]


def test_bulk_embedding_runs_and_runs_again(tmp_path: Path) -> None:
    """Runs the rendered command on local directories instead of the claims."""
    item = job("jobs", "embed")
    for place in ("data", "output"):
        (tmp_path / place).mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    rows = pyarrow.table({"text": ["three"]})
    pyarrow.parquet.write_table(rows, tmp_path / "data" / "b.parquet")
    words = [
        f"{tmp_path}{word}" if word.startswith(("/data/", "/output/")) else word
        for word in command(item)
    ]
    assert words[:3] == ["tini", "--", "osa"]
    (box,) = item["spec"]["template"]["spec"]["containers"]
    variables = {e["name"]: e["value"] for e in box["env"] if "value" in e}
    for _ in range(2):  # a repeated job has nothing to do, and reports this
        done = subprocess.run(
            [sys.executable, "-m", "osa.service.cli", *words[3:]],
            capture_output=True,
            text=True,
            env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    found = pyarrow.parquet.read_table(tmp_path / "output" / "vectors.parquet")
    assert found.column("text").to_pylist() == ["one", "two", "three"]
    assert len(found.column("embedding")[0]) == 384


def test_bulk_embedding_reads_and_writes_the_claims() -> None:
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in job("jobs", "embed")["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"data": "texts", "output": "vectors"}


def test_bulk_embedding_on_ray_is_a_cluster_of_the_same_pods(tmp_path: Path) -> None:
    """The rendered command is a valid one, and pods are pods."""
    (item,) = of_kind(rendered_case("ray"), "RayJob")
    words = shlex.split(item["spec"]["entrypoint"])
    assert words[:3] == ["osa", "embed", "--resume"]
    parser = argparse.ArgumentParser()
    embed_options.add_arguments(parser)
    options = parser.parse_args(words[2:])
    assert (options.on, options.workers, options.worker_cpus) == ("ray", 8, 4)
    assert options.worker_gpus == 1
    assert options.inputs == ["/data/texts", "/data/it's.jsonl"]
    assert options.ray_address is None, "Ray's job says it"
    cluster = item["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 8
    assert head["rayStartParams"]["num-cpus"] == "0", "engines run on workers"
    for group, gpus in ((head, 0), (workers, 1)):
        (box,) = group["template"]["spec"]["containers"]
        assert "command" not in box, "KubeRay starts Ray"
        assert box["resources"]["limits"].get("nvidia.com/gpu", 0) == gpus
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        pod["metadata"] = {**pod["metadata"], "name": "a"}
        pod["spec"] = {**pod["spec"], "restartPolicy": "Always"}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert of_kind(rendered_case("ray"), "Job") == []
