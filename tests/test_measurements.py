"""What a connection counts of itself."""

from __future__ import annotations

from itertools import pairwise

import pytest

from moorings.runtime.measurements import BUCKETS, Histogram


@pytest.mark.parametrize("durations", [[], [0.003], [0.003, 0.004], [0.0, 0.001, 0.3, 7.0, 7.0]])
def test_a_histogram_counts_every_duration_in_its_bucket(durations: list[float]) -> None:
    """Bounds are inclusive, and how many there were so far makes no difference."""
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    edges = [-1.0, *BUCKETS, float("inf")]
    expected = [
        sum(low < seconds <= high for seconds in durations) for low, high in pairwise(edges)
    ]
    assert list(histogram.snapshot()) == expected
    assert histogram.sum == pytest.approx(sum(durations))
