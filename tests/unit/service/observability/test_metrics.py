"""Metrics: TEI's exact names and buckets, everything present at zero from the start."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from osa.service.observability.metrics import (
    BATCH_FILL,
    BATCH_SIZE,
    BATCH_TOKENS,
    DURATION_BUCKETS,
    Families,
    Metrics,
)
from osa.service.observability.model_names import KEPT_MODELS


def samples(metrics: Metrics) -> dict[str, float]:
    """Sum over labels of every sample, by name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


@pytest.mark.parametrize(
    "name",
    [
        "te_request_count",
        "te_request_success",
        "te_request_failure",
        "te_embed_count",
        "te_embed_success",
        "te_predict_count",
        "te_predict_success",
        "te_request_duration_count",
        "te_request_tokenization_duration_count",
        "te_request_queue_duration_count",
        "te_request_inference_duration_count",
        "te_request_input_length_count",
        "te_batch_next_size_count",
        "te_batch_next_tokens_count",
        "osa_cancelled_tokens_total",
        "osa_truncated_inputs_total",
        "osa_nonfinite_rows_total",
        "osa_unknown_tokens_total",
    ],
)
def test_families_exist_at_zero(name: str) -> None:
    assert samples(Metrics("m"))[name] == 0.0


def test_counts_go_where_they_belong() -> None:
    metrics = Metrics("m")
    metrics.count_request(1)
    metrics.count_request(3)
    metrics.count_success([4, 5, 6], truncated=2)
    metrics.count_failure("validation")
    metrics.observe(BATCH_SIZE, 3)
    metrics.observe(BATCH_TOKENS, 15)
    metrics.observe(BATCH_FILL, 0.5)
    metrics.observe_durations({"total": 0.5, "queue": 0.1})
    text = metrics.render().decode()
    assert 'te_request_count{method="single",model="m"} 1.0' in text
    assert 'te_request_count{method="batch",model="m"} 1.0' in text
    assert 'te_request_failure{err="validation",model="m"} 1.0' in text
    found = samples(metrics)
    assert found["te_embed_count"] == 4
    assert found["te_embed_success"] == 3
    assert found["te_request_input_length_sum"] == 15
    assert found["te_batch_next_tokens_sum"] == 15
    assert found["osa_batch_fill_ratio_sum"] == 0.5
    assert found["osa_truncated_inputs_total"] == 2
    assert found["te_request_duration_sum"] == 0.5


def test_inputs_of_rerankers_and_classifiers_are_counted_by_themselves() -> None:
    metrics = Metrics("m", predicts=True)
    metrics.count_request(2)
    metrics.count_success([4, 5], truncated=0)
    found = samples(metrics)
    assert (found["te_predict_count"], found["te_predict_success"]) == (2, 2)
    assert (found["te_embed_count"], found["te_embed_success"]) == (0, 0)


def test_duration_buckets_are_teis() -> None:
    assert DURATION_BUCKETS[0] == pytest.approx(1.5e-5)
    assert DURATION_BUCKETS[1] / DURATION_BUCKETS[0] == pytest.approx(1.5)
    assert DURATION_BUCKETS[-1] > 600


def test_gauges_are_read_at_every_scrape() -> None:
    metrics, values = Metrics("m"), iter([1.0, 2.0])
    metrics.gauge("osa_test", "x", lambda: next(values))
    assert [samples(metrics)["osa_test"], samples(metrics)["osa_test"]] == [1.0, 2.0]


def test_models_that_are_served_no_longer_leave_the_metrics_in_the_end() -> None:
    families = Families()
    kept = Metrics("kept", families)
    kept.gauge("osa_test", "x", lambda: 1.0)
    for number in range(100):
        Metrics("exchanged", families)
        metrics = Metrics(f"m{number}", families)
        metrics.gauge("osa_test", "x", lambda: 2.0)
        metrics.count_request(1)
        metrics.end()
    Metrics("failed", families).end(keep=False)
    text = families.render().decode()
    assert {line for line in text.splitlines() if line.startswith("osa_test{")} == {
        'osa_test{model="kept"} 1.0'
    }
    names = {sample.labels.get("model") for family in text_string_to_metric_families(text)
             for sample in family.samples} - {None}  # fmt: skip
    last = {f"m{number}" for number in range(100 - KEPT_MODELS, 100)}
    assert names == {"kept", "exchanged", *last}
    assert text.count('te_request_count{method="single",model="m99"}') == 1


def test_counters_go_on_where_a_model_comes_back() -> None:
    families = Families()
    for count in (1.0, 2.0):
        metrics = Metrics("m", families)
        metrics.count_request(1)
        newer = Metrics("m", families)  # begins before the one that it takes the place of ends
        metrics.end()
        assert f'te_request_count{{method="single",model="m"}} {count}' in newer.render().decode()
        newer.end()
