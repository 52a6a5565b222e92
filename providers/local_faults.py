"""Faults of the in-memory server, to be switched on by whoever tests their own resilience.

They look to the runtime as a real server's do: calls fail or hang, and the "driver" tells the
runtime what its heartbeat would.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from ..errors import FailureReason
from . import local_host as host
from .contract import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .contract import Notify


class LocalFault(ConnectionError):
    """A call that met a fault.

    What is raised is PyMongo's `AutoReconnect` as well, so that code which was written against the
    real driver catches it.

    Attributes:
        reason: the `FailureReason` that the connection will show.
    """

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(f"the in-memory server fails every call: {reason.value}")
        self.reason = reason


class Faults:
    """The switches: each stays on until `heal()`. Use them from the host's own thread only.

    A call is one round trip to the server: a ping, `verify`, an operation on a collection, the
    first step of a cursor. A fault strikes before the call takes effect, so a call that failed or
    was cancelled has changed nothing.
    """

    def __init__(self) -> None:
        self._reason: FailureReason | None = None
        self._hanging = False
        self._delay = 0.0
        self._calls_left: int | None = None
        self._hung: set[host.Event] = set()
        self._listeners: list[Notify] = []

    def __repr__(self) -> str:
        return (
            f"<Faults refusing={self._reason} hanging={self._hanging} "
            f"delay={self._delay} calls_left={self._calls_left}>"
        )

    def refuse(self, reason: FailureReason = FailureReason.REFUSED) -> None:
        """Every call fails with `LocalFault(reason)`; open clients report `Signal.LOST`."""
        self._calls_left = None
        self._hanging = False
        self._reason = reason
        self._wake()
        self._tell(Signal.LOST)

    def hang(self) -> None:
        """No call returns until `heal()` (then it goes on) or until it is cancelled."""
        self._hanging = True

    def delay(self, seconds: float) -> None:
        """Each call takes `seconds` longer; 0 ends that. Time is the host's (virtual as well)."""
        if not 0 <= seconds < math.inf:  # nor is NaN
            raise ValueError("a delay is neither negative nor for ever: see hang()")
        self._delay = seconds

    def die_after(self, calls: int) -> None:
        """So many more calls succeed; then it is as after `refuse()`."""
        if calls < 0:
            raise ValueError("the number of calls cannot be negative")
        if calls == 0:
            self.refuse()
        else:
            self._calls_left = calls

    def heal(self) -> None:
        """All faults end: hung calls go on, and open clients report `Signal.USABLE`."""
        self._reason = None
        self._hanging = False
        self._delay = 0.0
        self._calls_left = None
        self._wake()
        self._tell(Signal.USABLE)

    async def admit(self) -> None:
        """Let one call through, late or never. A checkpoint; raises `LocalFault`."""
        await host.checkpoint()
        if self._delay:
            await host.sleep(self._delay)
        while self._hanging:
            await self._wait_for_change()
        if self._reason is not None:
            raise _fault(self._reason)
        if self._calls_left is not None:
            self._calls_left -= 1
            if not self._calls_left:
                self.refuse()

    def listen(self, notify: Notify) -> Callable[[], None]:
        """Tell `notify` what a driver's heartbeat would see; call the answer to end that."""
        self._listeners.append(notify)
        return functools.partial(self._listeners.remove, notify)

    async def _wait_for_change(self) -> None:
        woken = host.event()
        self._hung.add(woken)
        try:
            await woken.wait()
        finally:
            self._hung.discard(woken)

    def _wake(self) -> None:
        for woken in self._hung:
            woken.set()

    def _tell(self, signal: Signal) -> None:
        for notify in tuple(self._listeners):
            notify(signal)


def _fault(reason: FailureReason) -> LocalFault:
    return _fault_class()(reason)


@functools.cache
def _fault_class() -> type[LocalFault]:
    # Made at the first fault: importing this file must not import PyMongo.
    from pymongo.errors import AutoReconnect  # noqa: PLC0415

    class PyMongoLocalFault(LocalFault, AutoReconnect):
        def __init__(self, reason: FailureReason) -> None:
            LocalFault.__init__(self, reason)
            # OSError's own __init__ does not pass the call on, and PyMongo's labels need theirs.
            AutoReconnect.__init__(self, str(self))

    PyMongoLocalFault.__name__ = PyMongoLocalFault.__qualname__ = LocalFault.__name__
    return PyMongoLocalFault
