"""The chart, rendered by Helm: objects of every ``ci/*-values.yaml``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
CASES = sorted(file.stem.removesuffix("-values") for file in (CHART / "ci").glob("*-values.yaml"))
Object = dict[str, Any]


def case_values(case: str) -> dict[str, Any]:
    """Values of a case."""
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
    return values


def render(values: dict[str, Any], name: str = "osa") -> list[Object]:
    """Objects of a release in the namespace ``ml``.

    Raises:
        helm_python.HelmError: The values are refused, or a template fails.
    """
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=name, namespace="ml")
    return [
        item
        for file, text in sorted(rendered.items())
        if not file.endswith(".txt")
        for item in yaml.safe_load_all(text)
        if item
    ]


@functools.cache
def rendered_case(case: str) -> list[Object]:
    """Objects of a case; not to be changed."""
    return render(case_values(case))


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """All objects of a kind."""
    return [item for item in objects if item["kind"] == kind]


def pod_templates(objects: list[Object]) -> list[tuple[str, Object]]:
    """Every pod that the objects make: name of its object, and metadata with spec."""
    pods = [(item["metadata"]["name"], item) for item in of_kind(objects, "Pod")]
    for kind in ("Deployment", "Job"):
        pods += [
            (item["metadata"]["name"], item["spec"]["template"]) for item in of_kind(objects, kind)
        ]
    for item in of_kind(objects, "RayJob"):
        cluster = item["spec"]["rayClusterSpec"]
        pods += [
            (item["metadata"]["name"], group["template"])
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        ]
    return pods


def containers(pod: Object) -> list[Object]:
    """Init and main containers of a pod."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
