"""Every pod satisfies Kubernetes' "restricted" standard, and further rules for serving."""

from __future__ import annotations

import pytest

from tests.deploy.chart import CASES, Object, containers, of_kind, pod_templates, rendered_case

ALLOWED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
PODS = [(case, name, pod) for case in CASES for name, pod in pod_templates(rendered_case(case))]
IDS = [f"{case}-{name}" for case, name, _ in PODS]
pods = pytest.mark.parametrize("pod", [pod for _, _, pod in PODS], ids=IDS)


@pods
def test_restricted_standard(pod: Object) -> None:
    spec = pod["spec"]
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"]["type"] in ("RuntimeDefault", "Localhost")
    for volume in spec.get("volumes", []):
        assert len(set(volume) - {"name"} & ALLOWED_VOLUMES) == 1, volume
        assert (set(volume) - {"name"}) <= ALLOWED_VOLUMES, volume
    for box in containers(pod):
        context = box["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")
        assert all("hostPort" not in port for port in box.get("ports", []))


@pods
def test_nothing_more_than_it_needs(pod: Object) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # they would make variables OSA_PORT and so on
    for box in containers(pod):
        assert box["securityContext"]["readOnlyRootFilesystem"] is True
        assert box["resources"]["limits"]["memory"]
        assert box["image"].rpartition(":")[2] != "latest"
        assert ":" in box["image"].rpartition("/")[2]
    for volume in spec.get("volumes", []):
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"], "a pod may fill its node's disk"


@pytest.mark.parametrize("case", CASES)
def test_traffic_is_closed_unless_it_is_named(case: str) -> None:
    objects = rendered_case(case)
    policies = of_kind(objects, "NetworkPolicy")
    if case == "oci-model":
        assert policies == []
        return
    kinds = ("Deployment", "Job", "RayJob")
    assert len(policies) == sum(len(of_kind(objects, kind)) for kind in kinds)
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    if case == "default":
        assert policies[0]["spec"]["egress"] == []


def test_a_download_may_reach_its_port() -> None:
    def ports(case: str) -> set[object]:
        (policy,) = of_kind(rendered_case(case), "NetworkPolicy")
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports("http-model") == {53, 8081}
    assert ports("s3-model") == {53, 443, 3128}


def test_a_changed_key_file_reaches_the_pod() -> None:
    """A Secret that is mounted by subPath is never updated."""
    (deployment,) = of_kind(rendered_case("production"), "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    (mount,) = [mount for mount in server["volumeMounts"] if mount["name"] == "auth"]
    assert "subPath" not in mount
    (file,) = [e["value"] for e in server["env"] if e["name"] == "OSA_AUTH__KEYS_FILE"]
    assert file == f"{mount['mountPath']}/keys"
