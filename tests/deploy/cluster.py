"""As much of a Kubernetes API server as Helm needs to install, look up and upgrade a release.

Objects are stored as they are applied. As in Kubernetes, a Deployment that is applied without
``replicas`` keeps the number that another manager (an autoscaler) has set, and else gets one.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import helm_python
import yaml

from tests.deploy.chart import CHART, Object

KINDS = {
    "v1": ["Secret", "Service", "ServiceAccount", "ConfigMap", "Pod"],
    "apps/v1": ["Deployment"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
}
DEPLOYMENT = "/apis/apps/v1/namespaces/ml/deployments/osa"


def plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")


def place(version: str) -> str:
    return f"/{'apis' if '/' in version else 'api'}/{version}"


def discovery() -> dict[str, Object]:
    """What the server tells of its kinds, by path."""
    groups = []
    found: dict[str, Object] = {
        "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/openapi/v3": {
            "paths": {
                place(version)[1:]: {"serverRelativeURL": f"/openapi/v3{place(version)}"}
                for version in KINDS
            }
        },
    }
    for version, kinds in KINDS.items():
        group, _, number = version.rpartition("/")
        if group:
            named = {"groupVersion": version, "version": number}
            groups.append({"name": group, "versions": [named], "preferredVersion": named})
        verbs = ["get", "list", "create", "patch", "update", "delete"]
        found[place(version)] = {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": [
                {"name": plural(kind), "kind": kind, "namespaced": True, "verbs": verbs}
                for kind in kinds
            ],
        }
        check = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
        found[f"/openapi/v3{place(version)}"] = {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "1"},
            "paths": {
                f"{place(version)}/namespaces/{{namespace}}/{plural(kind)}/{{name}}": {
                    "patch": {
                        "parameters": [check],
                        "x-kubernetes-group-version-kind": {
                            "group": group,
                            "kind": kind,
                            "version": number,
                        },
                        "responses": {},
                    }
                }
                for kind in kinds
            },
        }
    found["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return found


class Cluster:
    """A running server, and Helm's connection to it.

    Attributes:
        objects: What was applied, by path.
        scaled: Number of pods that an autoscaler has set, if any.
        applied: Numbers of pods that Helm has asked for; None where it asked for none.
    """

    def __init__(self, helm: helm_python.Config) -> None:
        self.helm = helm
        self.objects: dict[str, Object] = {}
        self.scaled: int | None = None
        self.applied: list[int | None] = []

    def apply(self, path: str, item: Object) -> Object:
        if path == DEPLOYMENT:
            asked = item["spec"].get("replicas")
            self.applied.append(asked)
            self.scaled = self.scaled if asked is None else None
            item["spec"]["replicas"] = asked or self.scaled or 1
        self.objects[path] = item
        return item

    def scale(self, number: int) -> None:
        """As an autoscaler does."""
        self.scaled = self.objects[DEPLOYMENT]["spec"]["replicas"] = number

    @property
    def pods(self) -> int:
        """Pods of the Deployment."""
        return int(self.objects[DEPLOYMENT]["spec"]["replicas"])

    def install(self, **values: Any) -> None:
        self.helm.install(str(CHART), "osa", {"gpu": {"enabled": False}, **values})

    def upgrade(self, **values: Any) -> None:
        self.helm.upgrade(str(CHART), "osa", {"gpu": {"enabled": False}, **values})


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A server without objects."""
    known = discovery()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            found = known.get(path) or cluster.objects.get(path)
            self.answer(200 if found else 404, found or {"kind": "Status", "reason": "NotFound"})

        def do_PATCH(self) -> None:
            item = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
            item["metadata"] |= {"resourceVersion": "1", "uid": "1"}
            self.answer(200, cluster.apply(urlsplit(self.path).path, item))

        def do_DELETE(self) -> None:
            cluster.objects.pop(urlsplit(self.path).path, None)
            self.answer(200, {"kind": "Status", "status": "Success"})

        def answer(self, status: int, content: Object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        address = {"server": f"http://127.0.0.1:{server.server_port}"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": address}],
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        }
        try:
            with helm_python.Config(
                kubeconfig_content=json.dumps(config), namespace="ml", storage_driver="memory"
            ) as helm:
                cluster = Cluster(helm)
                yield cluster
        finally:
            server.shutdown()
            thread.join()
