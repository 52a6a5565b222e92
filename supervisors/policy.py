"""Pure decisions: may this child run again, and is the budget spent. `now` is an argument."""

from __future__ import annotations

from collections import deque
from typing import assert_never

from .spec import AutoShutdown, Restart


class RestartWindow:
    """OTP's restart intensity: more than `intensity` restarts within `period` seconds is too many.

    A window of timestamps rather than a counter with resets, so that a burst cannot hide behind
    a reset. Source: `add_restart/3` in OTP's supervisor.erl.
    """

    __slots__ = ("_times", "intensity", "period")

    def __init__(self, intensity: float, period: float) -> None:
        self.intensity = intensity
        self.period = period
        self._times: deque[float] | None = None  # made by the first restart: most never need it

    def add(self, now: float) -> bool:
        """Count a restart at `now` (seconds, monotonic); True if that is one too many."""
        times = self._times
        if times is None:
            times = self._times = deque()
        times.append(now)
        while times[0] < now - self.period:
            times.popleft()
        return len(times) > self.intensity

    def clear(self) -> None:
        """Forget every restart."""
        self._times = None

    def __len__(self) -> int:
        return len(self._times or ())


def runs_again(restart: Restart, *, abnormal: bool) -> bool:
    """Whether a child with this policy is started again after its own end."""
    match restart:
        case Restart.PERMANENT:
            return True
        case Restart.TRANSIENT:
            return abnormal
        case Restart.TEMPORARY:
            return False
        case _:
            assert_never(restart)


def shuts_down(auto_shutdown: AutoShutdown, *, last: bool) -> bool:
    """Whether the end of a significant child, perhaps the last active one, ends its supervisor."""
    match auto_shutdown:
        case AutoShutdown.NEVER:
            return False
        case AutoShutdown.ANY_SIGNIFICANT:
            return True
        case AutoShutdown.ALL_SIGNIFICANT:
            return last
        case _:
            assert_never(auto_shutdown)
