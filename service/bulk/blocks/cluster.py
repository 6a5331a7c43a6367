"""Ray: a cluster that runs already, or one of this machine's own for as long as a run takes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from osa.model.errors import ConfigError, OsaError, first_line

ADDRESS = "RAY_ADDRESS"
"""Variable that names the cluster, as Ray's own jobs set it."""


class ClusterError(OsaError):
    """The cluster cannot be reached, or its workers die again and again."""

    code = "cluster"


@dataclass(frozen=True)
class Workers:
    """How a run is spread.

    Attributes:
        count: Actors, with an engine each; None for as many as the cluster has room for.
        cpus: Of each [cores].
        gpus: Of each.
        address: Of a cluster; None for that of ``RAY_ADDRESS``, else one of this machine's own.
        store_bytes: Object store of this machine's own cluster; None for Ray's default [bytes].
        retries: How often a block is tried again whose worker died.
    """

    count: int | None = None
    cpus: float = 1
    gpus: float = 0
    address: str | None = None
    store_bytes: int | None = None
    retries: int = 3


@contextmanager
def connected(workers: Workers) -> Iterator[int]:
    """Connect to the cluster, or start one; yields how many workers to have.

    Raises:
        ClusterError: It cannot be reached or started.
        ConfigError: A cluster of this machine's own has no room for one worker.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # on standard error; not in files
    import ray

    address = workers.address or os.environ.get(ADDRESS) or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        own["object_store_memory"] = workers.store_bytes
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {first_line(error)}") from error
    resources: Any = ray
    try:
        yield workers.count or _room(resources.cluster_resources(), workers, address)
    finally:
        ray.shutdown()


def _room(resources: dict[str, float], workers: Workers, address: str) -> int:
    """How many workers fit.

    Raises:
        ConfigError: Not one.
    """
    wanted = {"CPU": workers.cpus, "GPU": workers.gpus}
    fits = [int(resources.get(name, 0) // each) for name, each in wanted.items() if each]
    count = min(fits, default=1)
    if count < 1:
        has = ", ".join(f"{resources.get(name, 0):g} {name}" for name in wanted)
        raise ConfigError(
            f"a worker takes {workers.cpus:g} CPU and {workers.gpus:g} GPU, the cluster "
            f"({address}) has {has}: say --worker-cpus and --worker-gpus, or --workers where it "
            "will grow"
        )
    return count
