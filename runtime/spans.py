"""Spans of time as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """0.3 s, 42 s, 3 m 5 s, 2 h 7 m, 3 d 4 h."""
    if seconds < 10:  # noqa: PLR2004 - a digit more while it matters
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for unit, name, below, part in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // below} {part}"
    return f"{whole} s"
