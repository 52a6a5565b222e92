"""Spans of time as people say them."""

from __future__ import annotations

import pytest

from moorings.runtime.spans import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (185.0, "3 m 5 s"),
        (7620.0, "2 h 7 m"),
        (273600.0, "3 d 4 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
