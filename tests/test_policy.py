"""Restart budgets and policies, as pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.supervisors.policy import RestartWindow, runs_again, shuts_down
from moorings.supervisors.spec import AutoShutdown, Restart


def test_more_than_intensity_is_too_many_not_as_many() -> None:
    window = RestartWindow(2, 10.0)
    assert [window.add(now) for now in (0.0, 1.0, 2.0)] == [False, False, True]


def test_intensity_zero_allows_none() -> None:
    assert RestartWindow(0, 10.0).add(0.0)


def test_a_restart_exactly_one_period_old_still_counts() -> None:
    """OTP's `in_period`: now - then =< period."""
    window = RestartWindow(1, 5.0)
    assert not window.add(10.0)
    assert window.add(15.0)


def test_older_restarts_are_forgotten() -> None:
    window = RestartWindow(1, 5.0)
    assert not window.add(10.0)
    assert not window.add(15.1)
    assert len(window) == 1


def test_the_window_slides_a_burst_cannot_hide_behind_a_reset() -> None:
    window = RestartWindow(2, 5.0)
    assert [window.add(now) for now in (0.0, 4.0, 5.5, 6.0)] == [False, False, False, True]


def test_clear_forgets_everything() -> None:
    window = RestartWindow(1, 5.0)
    assert len(window) == 0
    window.add(0.0)
    window.clear()
    assert len(window) == 0
    assert not window.add(0.0)


@given(st.integers(0, 5), st.integers(1, 20), st.lists(st.integers(0, 15), max_size=40))
def test_it_is_too_many_exactly_when_the_last_period_holds_more(
    intensity: int, period: int, gaps: list[int]
) -> None:
    """Whole seconds, so that the model's arithmetic is exact."""
    window, times, now = RestartWindow(intensity, float(period)), [], 0
    for gap in gaps:
        now += gap
        times.append(now)
        expected = sum(now - then <= period for then in times) > intensity
        assert window.add(float(now)) is expected


@pytest.mark.parametrize(
    ("restart", "abnormal", "expected"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.PERMANENT, False, True),
        (Restart.TRANSIENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TEMPORARY, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
def test_policies(restart: Restart, *, abnormal: bool, expected: bool) -> None:
    assert runs_again(restart, abnormal=abnormal) is expected


@given(st.sampled_from(Restart), st.booleans())
def test_whoever_runs_again_after_a_normal_end_does_so_after_an_abnormal_one(
    restart: Restart, abnormal: bool
) -> None:
    assert runs_again(restart, abnormal=abnormal) <= runs_again(restart, abnormal=True)


@given(st.integers(0, 5), st.lists(st.floats(0, 10), max_size=40))
def test_a_larger_intensity_never_gives_up_earlier(intensity: int, gaps: list[float]) -> None:
    strict, lenient, now = RestartWindow(intensity, 7.0), RestartWindow(intensity + 1, 7.0), 0.0
    for gap in gaps:
        now += gap
        assert lenient.add(now) <= strict.add(now)


@pytest.mark.parametrize(
    ("auto_shutdown", "last", "expected"),
    [
        (AutoShutdown.NEVER, False, False),
        (AutoShutdown.NEVER, True, False),
        (AutoShutdown.ANY_SIGNIFICANT, False, True),
        (AutoShutdown.ANY_SIGNIFICANT, True, True),
        (AutoShutdown.ALL_SIGNIFICANT, False, False),
        (AutoShutdown.ALL_SIGNIFICANT, True, True),
    ],
)
def test_shutting_down(auto_shutdown: AutoShutdown, *, last: bool, expected: bool) -> None:
    assert shuts_down(auto_shutdown, last=last) is expected
