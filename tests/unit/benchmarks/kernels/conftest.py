"""Results for report and plots."""

from __future__ import annotations

from benchmarks.common.timing import Timing
from benchmarks.kernels.backward import Backward
from benchmarks.kernels.cases import Case
from benchmarks.kernels.encoder_share import Share
from benchmarks.kernels.parity import Parity
from benchmarks.kernels.report import Results
from benchmarks.kernels.speed import Speed

CASE = Case(32, 8, "float32")
LONG = Case(32, 32768, "float32")


def timing(wall_s: float, cpu_s: float | None = None) -> Timing:
    cpu_s = 2 * wall_s if cpu_s is None else cpu_s
    return Timing(wall_s, cpu_s, faults=7.0, spread=0.1, samples=3)


def make_results() -> Results:
    fast = {"osa": timing(1e-3), "osa_gram": timing(4e-3), "sdpa-flash": timing(2e-3)}
    slow = {"osa": timing(1e-2)}
    results = Results({"hardware": "cpu-test", "date": "2026-11"}, "python -m benchmarks.kernels")
    gated = frozenset({"osa"})
    results.parity = [Parity(case, 0.5, {"osa": 1e-7}, gated) for case in (CASE, LONG)]
    results.gradient_errors = {CASE: 1e-7}
    results.copy_rate, results.product_rates = 1e10, {"float32": 1e11}
    results.speeds = [
        Speed(CASE, fast, fast, {"osa_qr": "over 2048 tokens"}),
        Speed(LONG, slow, {}, {"sdpa-flash": "25 s a run, over 20 s"}),
    ]
    both = {"osa": timing(3e-3), "sdpa-flash": timing(9e-3)}
    results.backward = [Backward(CASE, fast, both), Backward(LONG, slow, {"osa": timing(3e-2)})]
    results.shares = [Share(8, 4096, 3, timing(1e-1), timing(5e-3), timing(2e-2))]
    return results
