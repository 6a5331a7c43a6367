"""CPU time of HTTP and batching."""

from __future__ import annotations

from benchmarks.serving.ours import overhead


def test_histograms_are_read_over_all_labels() -> None:
    text = (
        "# TYPE sizes histogram\n"
        'sizes_bucket{model="a",le="+Inf"} 2.0\nsizes_sum{model="a"} 30.0\n'
        'sizes_count{model="a"} 2.0\nsizes_sum{model="b"} 2.0\nsizes_count{model="b"} 1.0\n'
    )
    assert overhead.histogram(text, "sizes") == (32.0, 3.0)


def test_overhead_is_told_by_length() -> None:
    samples = [
        {length: overhead.Sample(5.0 + turn, 4.0, 0.8, 0.1, 16.0) for length in (32, 202)}
        for turn in range(3)
    ]
    assert "| 32 | 6.00 | 4.00 | 16.00 | 2.00 | 0.80 | 0.10 |" in overhead.render(samples)
