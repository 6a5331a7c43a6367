"""A real server scraped by a real Prometheus: PromQL's results match the load generator's."""

from __future__ import annotations

import bisect
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from osa.service.observability.metrics import DURATION_BUCKETS
from tests.conftest import PATIENCE_S, free_port, wait_until
from tests.deploy.chart import CHART, ROOT
from tests.deploy.metric_names import alerts, dashboard_expressions, scaling_expressions
from tests.server_process import running_server

MAY_BE_EMPTY = ("> 0", "osa_cache_hits_total")
"""Queries with no answer while nothing fails, nothing restarts, and there is no cache or GPU."""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30.0)

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | float) -> Any:
        answer = self._http.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        (sample,) = self.query(expression)
        return float(sample["value"][1])

    def samples(self, series: str, window_s: int) -> list[tuple[float, float]]:
        """Times and values of one series."""
        (found,) = self.query(f"{series}[{window_s}s]")
        return [(float(when), float(value)) for when, value in found["values"]]

    def is_up(self) -> bool:
        try:
            return self._http.get("/status/runtimeinfo").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_prometheus(directory: Path, target: int) -> Iterator[Prometheus]:
    """Prometheus with the project's configuration, on this server, scraping fast."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is missing: install Debian's package prometheus")
    config = yaml.safe_load((ROOT / "docker" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    config["rule_files"] = [str(CHART / "alerts" / "osa.yaml")]
    labels = {"namespace": "ml"}  # as in a cluster
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [f"127.0.0.1:{target}"], "labels": labels}
    ]
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        program,
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    prometheus = Prometheus(port)
    try:
        wait_until(lambda: process.poll() is not None or prometheus.is_up())
        assert process.poll() is None, (directory / "prometheus.log").read_text()
        yield prometheus
    finally:
        prometheus.close()
        process.terminate()
        process.wait(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Prometheus]]:
    """A server's address, and the Prometheus that scrapes it."""
    directory = tmp_path_factory.mktemp("scraped")
    with (
        running_server(directory / "log") as (_, port),
        running_prometheus(directory, port) as prometheus,
    ):
        wait_until(lambda: bool(prometheus.query('up{job="osa"} == 1')))
        yield f"http://127.0.0.1:{port}", prometheus


def text(words: int, number: int) -> str:
    """Texts that differ: the server computes equal ones in flight once."""
    return f"text number {number} " + "some words of it " * (words // 4)


def run_clients(address: str, jobs: list[list[str]], clients: int) -> list[tuple[float, float]]:
    """Post jobs from so many clients at once; begin and end of each request [s since 1970]."""
    pending, spans, lock = iter(jobs), list[tuple[float, float]](), threading.Lock()
    failed: list[str] = []

    def run() -> None:
        with httpx.Client(timeout=PATIENCE_S) as client:
            while True:
                with lock:
                    inputs = next(pending, None)
                if inputs is None:
                    return
                began = time.time()
                answer = client.post(f"{address}/embed", json={"inputs": inputs})
                with lock:
                    spans.append((began, time.time()))
                    if answer.status_code != 200:
                        failed.append(answer.text)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(spans) == len(jobs)
    return spans


def bucket(seconds: float) -> int:
    """Place of a duration among the buckets of the histograms."""
    return bisect.bisect_left(DURATION_BUCKETS, seconds)


def wait_for_scrapes(prometheus: Prometheus, answered: int) -> None:
    total = 'sum(te_request_success{job="osa"})'
    wait_until(lambda: prometheus.value(total) >= answered)
    time.sleep(1.0)  # one scrape more, so that a rate has an end


def test_quantiles_agree_with_the_load_generator(scraped: tuple[str, Prometheus]) -> None:
    address, prometheus = scraped
    time.sleep(1.5)  # the histogram at 0 is scraped before the first request
    before = prometheus.value('sum(te_request_success{job="osa"})')
    # one request in ten is ten times as long, so that the quantiles lie apart
    jobs = [[text(1000 if n % 10 == 0 else 100, 8 * n + k) for k in range(8)] for n in range(100)]
    spans = run_clients(address, jobs, clients=3)
    wait_for_scrapes(prometheus, int(before) + len(jobs))
    took = sorted(end - began for began, end in spans)
    for quantile in (0.5, 0.95, 0.99):
        seen = took[min(len(took) - 1, int(quantile * len(took)))]
        told = prometheus.value(
            f"histogram_quantile({quantile}, sum by (le) "
            '(rate(te_request_duration_bucket{job="osa"}[5m])))'
        )
        print(f"p{100 * quantile:.0f}: PromQL {told:.3f} s, clients {seen:.3f} s")
        assert abs(bucket(told) - bucket(seen)) <= 1, (quantile, told, seen)


def test_backlog_seconds_agree_with_the_time_that_it_took(
    scraped: tuple[str, Prometheus],
) -> None:
    address, prometheus = scraped
    run_clients(address, [[text(400, k) for k in range(40)] for _ in range(4)], clients=2)
    rate = httpx.get(f"{address}/metrics").text
    (tokens_s,) = [
        float(line.rpartition(" ")[2])
        for line in rate.splitlines()
        if line.startswith("osa_tokens_per_second{")
    ]
    # work for some seconds, all of it queued at once
    tokens_each, batch = 406, 100
    requests = max(2, min(24, int(7 * tokens_s / (tokens_each * batch))))
    jobs = [[text(400, 10_000 + batch * n + k) for k in range(batch)] for n in range(requests)]
    spans = run_clients(address, jobs, clients=requests)
    ended = max(end for _, end in spans)
    time.sleep(1.5)
    window = int(time.time() - min(began for began, _ in spans)) + 2
    samples = prometheus.samples('osa_backlog_seconds{job="osa"}', window)
    highest = max(told for _, told in samples)
    queued = next(place for place, (_, told) in enumerate(samples) if told > highest / 2)
    # since most of it is queued, until little is left; what is told swings with the rate
    falling = [(told, ended - when) for when, told in samples[queued:] if ended - when > 1.5]
    assert len(falling) >= 4, samples
    apart = [bucket(told) - bucket(seen) for told, seen in falling if told > 0]
    print("backlog told and seen [s]:", *(f"{told:.1f}/{seen:.1f}" for told, seen in falling))
    assert abs(statistics.median(apart)) <= 1, falling


def test_every_query_of_dashboard_and_scaling_is_answered(
    scraped: tuple[str, Prometheus],
) -> None:
    address, prometheus = scraped
    run_clients(address, [[text(20, n)] for n in range(20)], clients=2)
    wait_for_scrapes(prometheus, 20)
    scaling = [query.replace('job="osa"', 'job=~"osa"') for query in scaling_expressions()]
    for expression in [*dashboard_expressions(), *scaling]:
        found = prometheus.query(expression.replace("[2m]", "[5m]"))
        assert found or any(part in expression for part in MAY_BE_EMPTY), expression


def test_every_alert_is_evaluated_and_none_fires(scraped: tuple[str, Prometheus]) -> None:
    _, prometheus = scraped

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("/rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules()))
    assert {rule["name"] for rule in rules()} == {rule["alert"] for rule in alerts()}
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []
