"""Ratios of measured times."""

from __future__ import annotations

from benchmarks.kernels.cases import Case
from benchmarks.kernels.speed import Speed, best_peer
from tests.unit.benchmarks.kernels.conftest import timing


def test_ratios_are_the_others_time_over_ours() -> None:
    warm = {"osa": timing(2.0, 4.0), "sdpa-math": timing(8.0, 8.0), "sdpa-flash": timing(6.0, 2.0)}
    speed = Speed(Case(32, 8, "float32"), warm)
    assert speed.peer == best_peer(warm) == "sdpa-flash"
    assert speed.ratio(speed.peer, warm) == 3.0
    assert speed.ratio(speed.peer, warm, cpu=True) == 0.5
    assert speed.ratio("osa_qr", warm) != speed.ratio("osa_qr", warm)  # NaN: it did not run
    assert speed.per_token("osa", warm) == 2.0 / 4096
    assert best_peer({"osa": timing(1.0)}) is None
