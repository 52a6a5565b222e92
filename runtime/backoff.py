"""How long to wait: pure functions, with randomness as an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


def decorrelated(previous: float, initial: float, maximum: float, random: Random) -> float:
    """The next delay, in seconds: uniform between `initial` and three times the previous one.

    "Decorrelated jitter" as in the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015):
    clients that failed together do not come back together.

    Args:
        previous: the delay before this one; anything below `initial` counts as `initial`.
        initial: the shortest delay.
        maximum: the longest delay.
        random: where the randomness comes from.
    """
    return min(maximum, random.uniform(initial, max(initial, previous) * 3))


def jittered(interval: float, jitter: float, random: Random) -> float:
    """`interval` seconds, give or take the fraction `jitter` of it."""
    return interval * random.uniform(1.0 - jitter, 1.0 + jitter)


def stale_after(interval: float, jitter: float, timeout: float, failures: int) -> float:
    """How long a connection may be `ready` without proof of life, in seconds.

    The longest wait for the next ping, then `failures` pings that each take all their time.
    """
    return interval * (1.0 + jitter) + failures * timeout
