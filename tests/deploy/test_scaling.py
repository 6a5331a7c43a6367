"""Real upgrades by Helm: none of them takes away pods that an autoscaler, or nobody, took away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.cluster import running_cluster


def scaled(least: int = 1) -> dict[str, Any]:
    return {"autoscaling": {"minReplicas": least, "maxReplicas": 12, "hpa": {"enabled": True}}}


@pytest.mark.parametrize(("least", "pods"), [(1, 3), (5, 5)])
def test_autoscaling_of_three_pods_begins_with_three(least: int, pods: int) -> None:
    with running_cluster() as cluster:
        cluster.install(server={"replicas": 3})
        cluster.upgrade(**scaled(least))
        assert cluster.pods == pods
        cluster.scale(9)
        cluster.upgrade(**scaled(least), podAnnotations={"a": "b"})
        assert cluster.pods == 9
        cluster.upgrade(server={"replicas": 2})
        cluster.upgrade(**scaled(least))
        assert cluster.pods == max(2, least)


def test_a_release_that_is_scaled_from_its_start_never_states_a_number() -> None:
    """Otherwise a rollback would set the number of back then."""
    with running_cluster() as cluster:
        cluster.install(**scaled())
        cluster.scale(7)
        cluster.upgrade(**scaled(2))
        assert cluster.pods == 7
        assert cluster.applied == [None, None]
