"""Pods on nodes with GPUs: what they ask for, which nodes they go to."""

from __future__ import annotations

from tests.deploy.chart import Object, of_kind, render, rendered_case


def test_the_gpu_is_asked_for_and_insisted_on() -> None:
    for case, resource in (("default", "nvidia.com/gpu"), ("production", "nvidia.com/mig-1g.10gb")):
        (deployment,) = of_kind(rendered_case(case), "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["limits"][resource] == 1
        keys = [toleration["key"] for toleration in pod["tolerations"]]
        assert {resource, "nvidia.com/gpu"} == set(keys[: len({resource, "nvidia.com/gpu"})])
        assert {"name": "OSA_MODEL__DEVICE", "value": "cuda"} in pod["containers"][0]["env"]
    assert "nvidia" not in str(rendered_case("cpu"))


def test_nodes_with_an_old_driver_are_left_out_beside_the_users_own_rules() -> None:
    zone: Object = {"key": "zone", "operator": "In", "values": ["a"]}
    driver: Object = {
        "key": "nvidia.com/cuda.driver-version.major",
        "operator": "Gt",
        "values": ["579"],
    }
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for terms, wanted in (([], [[driver]]), ([{"matchExpressions": [zone]}], [[zone, driver]])):
        own: Object = {"nodeAffinity": {required: {"nodeSelectorTerms": terms}}} if terms else {}
        values: Object = {"gpu": {"minDriver": 580}, "affinity": own}
        (deployment,) = of_kind(render(values), "Deployment")
        found = deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][required]
        assert [term["matchExpressions"] for term in found["nodeSelectorTerms"]] == wanted
    (deployment,) = of_kind(rendered_case("default"), "Deployment")
    assert "affinity" not in deployment["spec"]["template"]["spec"]
