"""checkov's policies for every case. Exceptions are listed here, with the reason.

checkov cannot live in the project's environment (it wants older libraries); ``make chart`` installs
it beside, and without it this file is skipped: test_pod_security.py holds the core of it always.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.chart import CASES, ROOT, rendered_case

CHECKOV = ROOT / "build" / "tools" / "bin" / "checkov"
NOT_FOLLOWED = {
    "CKV_K8S_11": "no CPU limit by default: throttling costs latency, requests share fairly",
    "CKV_K8S_15": "tags carry a version, so IfNotPresent is right, and starts need no registry",
    "CKV_K8S_43": "image.digest is there for who knows it; the chart cannot",
}
NOT_FOLLOWED_BY = {
    ("CKV_K8S_8", "Pod"): "the pod of `helm test` runs once",
    ("CKV_K8S_9", "Pod"): "the pod of `helm test` runs once",
    ("CKV2_K8S_6", "Pod"): "the pod of `helm test` speaks to the service",
    ("CKV_K8S_35", "Deployment"): "the aws command reads its keys from the environment",
}
WITHOUT_POLICIES = {"oci-model"}
"""Cases that switch network policies off."""


def test_policies_are_followed(tmp_path: Path) -> None:
    if not CHECKOV.is_file():
        pytest.skip("checkov is missing: make chart installs it")
    for case in CASES:
        objects = [
            {**item, "metadata": {**item["metadata"], "namespace": "ml"}}
            for item in rendered_case(case)
        ]
        (tmp_path / f"{case}.yaml").write_text(yaml.safe_dump_all(objects))
    command = [str(CHECKOV), "-d", str(tmp_path), "--framework", "kubernetes", "-o", "json"]
    quiet = ["--skip-download", "--quiet", "--compact"]
    done = subprocess.run(
        [*command, *quiet],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000
    problems = []
    used = set()
    for failed in report["results"]["failed_checks"]:
        check, kind = failed["check_id"], failed["resource"].partition(".")[0]
        case = Path(failed["file_path"]).stem
        if check == "CKV2_K8S_6" and case in WITHOUT_POLICIES:
            continue
        if check in NOT_FOLLOWED or (check, kind) in NOT_FOLLOWED_BY:
            used.add(check)
        else:
            problems.append(f"{check} {failed['check_name']}: {case} {failed['resource']}")
    assert problems == []
    assert used == {*NOT_FOLLOWED, *(check for check, _ in NOT_FOLLOWED_BY)}
