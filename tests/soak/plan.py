"""What goes wrong, when, and for how long: drawn from a seed, and the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

KINDS: Final = (
    "kill",
    "freeze",
    "step-down",
    "refuse",
    "cut",
    "blackhole",
    "delay",
    "throttle",
    "half-open",
    "corrupt",
)
INSTANT: Final = frozenset({"step-down", "cut", "half-open"})
"""Those that are over as soon as they have struck."""

GAP: Final = 2.0
"""Seconds between two faults, on average: one member's may last while another's begins."""
LASTS: Final = (0.5, 8.0)
"""Seconds."""
BLACKOUT: Final = 0.08
"""How often all members are struck alike, so that nobody is left to serve."""
BLACKOUT_LASTS: Final = (3.0, 15.0)


@dataclass(frozen=True)
class Strike:
    """One fault of one member.

    Attributes:
        at: seconds since the beginning.
        until: when it is healed.
        kind: one of `KINDS`.
        member: the member's number.
    """

    at: float
    until: float
    kind: str
    member: int


def plan(seed: int, seconds: float, members: int = 3) -> list[Strike]:
    """Faults for so many seconds, by their beginning. No member has two at a time."""
    draw = random.Random(seed)
    free_from = [0.0] * members
    strikes: list[Strike] = []
    now = draw.expovariate(1 / GAP)
    while now < seconds:
        kind = draw.choice(KINDS)
        free = [member for member in range(members) if free_from[member] <= now]
        everybody = draw.random() < BLACKOUT and len(free) == members and kind not in INSTANT
        chosen = free if everybody else draw.sample(free, min(1, len(free)))
        lasts = draw.uniform(*(BLACKOUT_LASTS if everybody else LASTS))
        until = now if kind in INSTANT else min(now + lasts, seconds)
        for member in chosen:
            strikes.append(Strike(now, until, kind, member))
            free_from[member] = until + draw.uniform(0.0, GAP)
        now += draw.expovariate(1 / GAP)
    return strikes
