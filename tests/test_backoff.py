"""Delays: bounds that hold for every draw, and the draws themselves."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from moorings.runtime.backoff import decorrelated, jittered, stale_after

SECONDS = st.floats(0.001, 1000.0)


class Extreme(Random):
    """Draws one end of the range it is asked for, and remembers that range."""

    def __init__(self, *, high: bool) -> None:
        super().__init__()
        self.high = high
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append((a, b))
        return b if self.high else a


@given(SECONDS, SECONDS, st.floats(1.0, 100.0), st.integers())
def test_a_delay_is_never_below_initial_nor_above_maximum(
    previous: float, initial: float, factor: float, seed: int
) -> None:
    maximum = initial * factor
    assert initial <= decorrelated(previous, initial, maximum, Random(seed)) <= maximum


def test_the_draw_is_between_initial_and_three_times_the_previous() -> None:
    random = Extreme(high=True)
    assert decorrelated(2.0, 0.5, 100.0, random) == 6.0
    assert random.asked == [(0.5, 6.0)]


def test_a_first_delay_counts_as_if_initial_came_before_it() -> None:
    random = Extreme(high=True)
    assert decorrelated(0.0, 0.5, 100.0, random) == 1.5
    assert random.asked == [(0.5, 1.5)]


def test_delays_grow_threefold_at_most_until_the_maximum() -> None:
    random, delay, delays = Extreme(high=True), 0.0, []
    for _ in range(6):
        delay = decorrelated(delay, 0.1, 5.0, random)
        delays.append(round(delay, 3))
    assert delays == [0.3, 0.9, 2.7, 5.0, 5.0, 5.0]


def test_two_clients_that_failed_together_part() -> None:
    a, b = (decorrelated(1.0, 0.1, 5.0, Random(seed)) for seed in (1, 2))
    assert a != b


@given(SECONDS, st.floats(0.0, 0.99), st.integers())
def test_jitter_keeps_its_share(interval: float, jitter: float, seed: int) -> None:
    found = jittered(interval, jitter, Random(seed))
    assert interval * (1 - jitter) * 0.999999 <= found <= interval * (1 + jitter) * 1.000001


def test_jitter_goes_both_ways() -> None:
    assert jittered(10.0, 0.1, Extreme(high=False)) == 9.0
    assert jittered(10.0, 0.1, Extreme(high=True)) == 11.0
    assert jittered(10.0, 0.0, Random(1)) == 10.0


def test_the_default_bound_is_seventeen_seconds() -> None:
    assert stale_after(10.0, 0.1, 2.0, 3) == 17.0
