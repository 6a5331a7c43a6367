"""``model.source=huggingface``: who has the token, who may go out; the commands run for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from osa.model.common.hub_reference import parse_reference
from osa.service.cli import make_parser
from tests.deploy.chart import (
    CASES,
    Object,
    case_values,
    containers,
    of_kind,
    pod_templates,
    render,
    rendered_case,
)
from tests.hub_server import running_hub

CASE = "huggingface-model"
DOWNLOADS = {"http-model", "s3-model", CASE}


def pods(objects: list[Object]) -> list[Object]:
    """Specifications of the pods that run a model."""
    found = [pod["spec"] for _, pod in pod_templates(objects) if pod["spec"].get("initContainers")]
    assert found
    return found


def values(**changes: Any) -> dict[str, Any]:
    """Least values of the source."""
    return {"model": {"source": "huggingface", "huggingface": {"repository": "a/b", **changes}}}


def test_the_download_alone_has_the_token() -> None:
    objects = rendered_case(CASE)
    assert len(pods(objects)) == 2, "the server's and the job's"
    for pod in pods(objects):
        (download,) = pod["initContainers"]
        (main,) = pod["containers"]
        (token,) = [volume for volume in pod["volumes"] if "secret" in volume]
        assert token["secret"] == {"secretName": "hub"}
        mounts = {mount["name"]: mount for mount in download["volumeMounts"]}
        assert mounts[token["name"]]["readOnly"] is True
        assert not mounts["model"].get("readOnly")
        path = {entry["name"]: entry.get("value") for entry in download["env"]}["HF_TOKEN_PATH"]
        assert path == f"{mounts[token['name']]['mountPath']}/read-token"
        assert token["name"] not in [mount["name"] for mount in main["volumeMounts"]]
        (model,) = [mount for mount in main["volumeMounts"] if mount["name"] == "model"]
        assert model["readOnly"] is True
        assert {"name": "HF_HUB_OFFLINE", "value": "1"} in main["env"]


def test_the_download_and_the_server_name_the_same_model() -> None:
    for pod in pods(rendered_case(CASE)):
        options = make_parser().parse_args(pod["initContainers"][0]["args"])
        reference = parse_reference(options.model)
        assert reference.repository == "acme/support-articles"
        assert reference.is_commit
        (path,) = [
            entry["value"]
            for entry in pod["containers"][0]["env"]
            if entry["name"] == "OSA_MODEL__PATH"
        ]
        assert path == options.model


def test_the_cache_is_a_claim_or_a_volume_of_the_pod() -> None:
    def volume(objects: list[Object]) -> Object:
        (found,) = [item for item in pods(objects)[0]["volumes"] if item["name"] == "model"]
        return dict(found)

    assert volume(rendered_case(CASE))["persistentVolumeClaim"] == {"claimName": "models"}
    assert volume(render(values()))["emptyDir"] == {"sizeLimit": "8Gi"}
    (download,) = pods(render(values()))[0]["initContainers"]
    assert "hub-token" not in str(pods(render(values())))
    assert [entry["name"] for entry in download["env"]] == ["HF_HUB_CACHE", "HF_HOME"]


def opened(objects: list[Object]) -> list[set[int]]:
    """Ports to which policies let pods connect, training apart."""
    return [
        {port["port"] for rule in item["spec"]["egress"] for port in rule.get("ports", [])}
        for item in of_kind(objects, "NetworkPolicy")
        if not item["metadata"]["name"].endswith("-train")
    ]


def test_the_network_is_opened_for_downloads_alone() -> None:
    assert opened(rendered_case(CASE)) == [{53, 8443}, {53, 8443}]
    assert opened(render(values())) == [{53, 443}]
    assert opened(render(values(endpoint="http://hub.example.com"))) == [{53, 80}]
    for case in set(CASES) - DOWNLOADS - {"ray"}:  # whose workers speak with each other
        allowed = case_values(case).get("networkPolicy", {}).get("egress", [])
        if not allowed:
            assert all(ports == set() for ports in opened(rendered_case(case))), case


@pytest.mark.parametrize("case", sorted(set(CASES) - {CASE}))
def test_other_sources_know_nothing_of_the_hub(case: str) -> None:
    for _, pod in pod_templates(rendered_case(case)):
        names = [entry["name"] for box in containers(pod) for entry in box.get("env", [])]
        assert not [name for name in names if name.startswith("HF_")]


def test_the_rendered_containers_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The download with its environment, then the server's, which asks nobody."""
    cache = tmp_path / "models"
    (tmp_path / "token").write_text("hf_secret")

    def run(box: Object, *arguments: str) -> subprocess.CompletedProcess[str]:
        rendered = {entry["name"]: entry["value"] for entry in box["env"] if "value" in entry}
        places = {
            "/models": str(cache),
            "/etc/osa/hub/token": str(tmp_path / "token"),
            "/tmp/huggingface": str(tmp_path / "home"),
        }
        own = {name: places.get(value, value) for name, value in rendered.items()}
        return subprocess.run(
            [sys.executable, "-m", "osa.service.cli", *arguments],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=300,
        )

    with running_hub() as hub:
        hub.add("a/b", token="hf_secret").publish_directory(tiny_checkpoint)
        pod = pods(render(values(endpoint=hub.url, existingSecret="hub")))[0]
        (download,), (server,) = pod["initContainers"], pod["containers"]
        done = run(download, *download["args"])
        assert done.returncode == 0, done.stderr
        asked = len(hub.asked)
        again = run(download, *download["args"])
        assert again.returncode == 0, again.stderr
        assert len(hub.asked) == asked, "a filled cache is not filled again"
        before = {file: file.lstat().st_mtime_ns for file in cache.rglob("*")}
        shown = run(server, "inspect", download["args"][1])
        after = {file: file.lstat().st_mtime_ns for file in cache.rglob("*")}
        assert before == after, "the server's mount is read-only"
        assert shown.returncode == 0, shown.stderr
        assert '"format": "checkpoint"' in shown.stdout
        assert len(hub.asked) == asked
