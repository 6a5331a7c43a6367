"""Dockerfile and compose files, without a build: all files, targets and settings exist."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from osa.model.inference.cuda_device import LEAST_DRIVER
from osa.service.server_settings import ServerSettings
from tests.deploy.chart import CHART, ROOT

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def compose(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())
    return found


def project(*extras: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(DOCKER / "dependencies.py"), *extras],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().split()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, source


def test_bases_are_pinned_and_the_image_is_not_root() -> None:
    bases = re.findall(r"^ARG BASE=(.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert len(bases) == 1
    assert re.search(r":\d+\.\d+-slim$", bases[0])
    users = re.findall(r"^USER (.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert users[-1] == "10001:10001"
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["podSecurityContext"]["runAsUser"] == 10001
    for target in ("cpu", "cuda"):
        assert re.search(rf"^FROM runtime AS {target}$", DOCKERFILE, flags=re.MULTILINE)


def test_every_direct_dependency_is_pinned_to_a_version_that_fits() -> None:
    pins = dict(
        line.split("==")
        for line in (DOCKER / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    for text in filter(None, project("hub,tracing,grpc,train")):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name != "torch" and (requirement.marker is None or requirement.marker.evaluate()):
            assert name in pins, f"{name}: run python docker/constraints.py"
            assert requirement.specifier.contains(pins[name], prereleases=True), name


def test_an_image_can_send_traces_download_models_and_speak_grpc() -> None:
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', DOCKERFILE, flags=re.MULTILINE)
    for package in ("opentelemetry-sdk", "huggingface_hub", "grpcio>", "grpcio-health-checking"):
        assert any(text.startswith(package) for text in project(extras)), package


def test_an_extra_that_does_not_exist_stops_the_build() -> None:
    command = [sys.executable, str(DOCKER / "dependencies.py"), "trian"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "EXTRAS has trian; extras are train" in done.stderr


def test_a_cpu_image_stops_before_it_fetches_torch_with_cuda() -> None:
    """When compose passes no index on, and pip's default index has the CUDA build only."""
    argument = compose("compose.yaml")["services"]["server"]["build"]["args"]["TORCH_INDEX"]
    assert argument == "${TORCH_INDEX:-}"
    asks, installs = (
        DOCKERFILE.index(text)
        for text in ('--cpu "${TORCH_INDEX}"', "pip install -c docker/constraints.txt -r")
    )
    assert DOCKERFILE.index(" AS build-cpu") < asks < installs
    command = [sys.executable, str(DOCKER / "dependencies.py"), "--cpu"]
    found = {
        index: subprocess.run([*command, index], capture_output=True, text=True)
        for index in ("", "usual", "https://wheels.example.com/cpu")
    }
    if platform.machine() == "x86_64":
        assert found[""].returncode == 1
        assert "torch with CUDA alone for this platform (several GB)" in found[""].stderr
    named, usual = found["https://wheels.example.com/cpu"].stdout.split("\n", 1)
    assert named == "--extra-index-url https://wheels.example.com/cpu"
    assert usual == found["usual"].stdout
    assert usual.startswith("torch~=")


def test_the_cuda_image_insists_on_a_device_and_a_driver() -> None:
    cuda = DOCKERFILE.split(" AS cuda\n")[1]
    assert re.search(r"^ *OSA_MODEL__DEVICE=cuda$", cuda, re.M)
    version = re.search(r'NVIDIA_REQUIRE_CUDA="cuda>=(\d+)\.0"', cuda)
    assert version
    assert f'com.nvidia.driver.minimum="{LEAST_DRIVER[int(version[1])]}"' in cuda
    assert "OSA_MODEL__DEVICE" not in DOCKERFILE.split(" AS cuda\n")[0]


def test_one_onnx_runtime_for_every_platform() -> None:
    """With both, the second would overwrite the files of the first."""
    texts = filter(lambda text: text.startswith("onnxruntime"), project())
    runtimes = [Requirement(text) for text in texts]
    for machine, system, expected in (
        ("x86_64", "linux", "onnxruntime-gpu"),
        ("AMD64", "win32", "onnxruntime"),
        ("aarch64", "linux", "onnxruntime"),
        ("arm64", "darwin", "onnxruntime"),
        ("x86_64", "darwin", "onnxruntime"),
    ):
        place = {"platform_machine": machine, "sys_platform": system}
        chosen = [item.name for item in runtimes if item.marker and item.marker.evaluate(place)]
        assert chosen == [expected], place


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_names_targets_files_and_volumes_that_exist(name: str) -> None:
    found = compose(name)
    for service in found["services"].values():
        if "build" in service:
            assert f" AS {service['build']['target']}\n" in DOCKERFILE
        assert service["image"].rpartition(":")[2] not in ("", "latest")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
            else:
                assert source in found["volumes"]


def test_models_of_the_hub_are_kept_where_the_user_of_the_image_may_write() -> None:
    server = compose("compose.yaml")["services"]["server"]
    assert f"models:{server['environment']['HF_HUB_CACHE']}" in server["volumes"]
    assert re.search(r"install --directory --owner=10001 --group=10001 /models$", DOCKERFILE, re.M)


def test_compose_stops_a_server_later_than_its_drain_ends() -> None:
    grace = compose("compose.yaml")["services"]["server"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > ServerSettings().drain_timeout_s + 5


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    services = compose("compose.yaml")["services"]
    (source,) = compose("grafana/datasources.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = compose("grafana/dashboards.yaml")["providers"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["../helm/dashboards"] == provider["options"]["path"]


def test_prometheus_takes_the_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: install Debian's package prometheus")
    config = compose("prometheus.yaml")
    (rules,) = config["rule_files"]
    mounts = dict(
        volume.split(":")[:2]
        for volume in compose("compose.yaml")["services"]["prometheus"]["volumes"]
    )
    assert mounts["../helm/alerts"] == str(Path(rules).parent)
    config["rule_files"] = [str(CHART / "alerts" / "*.yaml")]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run([promtool, "check", "config", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert [job["job_name"] for job in config["scrape_configs"]] == ["osa"]
