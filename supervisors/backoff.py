"""How long a child waits before it is restarted."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

_RANDOM = random.Random()  # noqa: S311 - jitter is no secret


@dataclass(frozen=True, slots=True)
class Backoff:
    """Wait before every restart, with decorrelated jitter, so that no herd comes back at once.

    The delay is drawn between `initial` and three times the delay before it, and is at most `max`.
    An incarnation that lived longer than `max` seconds begins anew at `initial`. Source: AWS
    Architecture Blog, "Exponential Backoff And Jitter" (2015).

    Attributes:
        initial: the shortest delay, in seconds.
        max: the longest delay, in seconds.
        random: where the randomness comes from; one generator for all by default.

    Raises:
        ValueError: not 0 < `initial` <= `max`, or `max` is not finite.
    """

    initial: float = 0.1
    max: float = 5.0
    random: random.Random = field(default=_RANDOM, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.max < math.inf:
            raise ValueError(
                f"backoff: 0 < initial <= max, both finite; got {self.initial} and {self.max}"
            )

    def delay(self, previous: float, lived: float) -> float:
        """The next delay, in seconds.

        Args:
            previous: the delay before this one; 0 if there was none.
            lived: how many seconds the incarnation lived that this delay follows.
        """
        floor = self.initial if lived > self.max else max(self.initial, previous)
        return min(self.max, self.random.uniform(self.initial, floor * 3))
