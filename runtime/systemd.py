"""What a service manager is told: systemd's notification protocol, sd_notify(3).

Only where `NOTIFY_SOCKET` is set, and nothing here ever fails or holds up the program. The
environment stays as it is: the program's own function may speak the protocol, too.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .kernel import HEARTBEAT
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .manager import ConnectionManager
    from .status import ConnectionStatus, Transition

logger = logging.getLogger("moorings.systemd")

_NAMED = 3
"""How many connections that are not ready the status names; the others it counts."""
_DIGITS = 20
_KEPT = 16
"""How many messages wait for a manager whose queue is full, before the oldest is let go: of those
that a later one makes up for, as long as there are any."""

_PASSING = (b"STATUS=", b"WATCHDOG=")
"""Of these, the next one says all that is needed."""


class Notifier:
    """Sends datagrams to a service manager; keeps those that it does not take at once.

    Args:
        address: as in `NOTIFY_SOCKET`: a path, or `@` and an abstract name. None: to nobody.
    """

    # A socket for each message: the manager may have been restarted, and bound a new one.

    def __init__(self, address: str | None) -> None:
        self._address = _sockaddr(address)
        self._waiting: deque[bytes] = deque()
        self._complained = False

    @property
    def listening(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def send(self, *assignments: str) -> None:
        """Send `assignments` (`READY=1` and the like) as one message, after those that wait."""
        if self._address is not None:
            if len(self._waiting) >= _KEPT:
                self._let_go()
            self._waiting.append("\n".join(assignments).encode())
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as it is taken; never blocks, never raises."""
        while self._waiting and self._address is not None:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                    channel.setblocking(False)  # noqa: FBT003 - the socket's own signature
                    channel.sendto(self._waiting[0], self._address)
            except BlockingIOError:
                return  # its queue is full: at the next heartbeat
            except OSError as error:
                self._complain(error)
            self._waiting.popleft()

    def _let_go(self) -> None:
        passing = (i for i, m in enumerate(self._waiting) if m.startswith(_PASSING))
        del self._waiting[next(passing, 0)]

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("the service manager cannot be told: %s", error)


def _sockaddr(address: str | None) -> str | None:
    if not address:
        return None
    if address.startswith("@"):
        return "\0" + address[1:]
    if address.startswith("/"):
        return address
    logger.warning("NOTIFY_SOCKET is neither a path nor an abstract name: nobody is told")
    return None


class ServiceManager:
    """A program's whole conversation with systemd. Belongs to the host's thread.

    Args:
        environ: where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are looked up.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._notifier = Notifier(environ.get("NOTIFY_SOCKET"))
        interval = watchdog_seconds(environ)
        # What a beat sends must outlast the wait for the next: a beat early rather than late.
        self._every = None if interval is None else interval / 2 - HEARTBEAT
        self._petted = -float("inf")
        self._manager: ConnectionManager | None = None
        self._changed = True
        self._reloads = 0
        self._ready = False
        self._stopping = False

    def attach(self, manager: ConnectionManager) -> None:
        """From now on `manager` is what is told of, and its kernel's heartbeat the proof of life.

        A loop that is stuck has no heartbeat, so that systemd kills it.
        """
        if self._notifier.listening:
            self._manager = manager
            manager.kernel.on_beat = self._beat

    def observe(self, _: Transition) -> None:
        """A connection has changed: the next heartbeat says so. Storms become one message."""
        self._changed = True

    def ready(self) -> None:
        """The program's function runs from now on."""
        self._ready = True
        if not self._stopping:
            self._notifier.send("READY=1", *self._status())

    def stopping(self) -> None:
        """The end has begun. Nothing but the status is told after it."""
        if not self._stopping:
            self._stopping = True
            self._notifier.send("STOPPING=1", "STATUS=shutting down")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The settings are read again in the block; whatever comes of it, the program goes on."""
        self._reloads += 1
        if not self._stopping:
            # Type=notify-reload takes it for the answer to its signal by this clock.
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={now}")
        try:
            yield
        finally:
            self._reloads -= 1
            if not self._reloads and not self._stopping:
                self._notifier.send("READY=1", *self._status())

    def _beat(self) -> None:
        """One heartbeat of the kernel."""
        self._notifier.flush()
        if self._changed and not self._stopping:
            self._notifier.send(*self._status())
        now = time.monotonic()
        if self._every is not None and now - self._petted >= self._every:
            self._petted = now
            self._notifier.send("WATCHDOG=1")

    def _status(self) -> tuple[str, ...]:
        if self._manager is None:
            return ()
        self._changed = False
        text = describe(self._manager.statuses())
        return (f"STATUS={text}" if self._ready else f"STATUS=starting; {text}",)


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How long systemd waits for a sign of life, in seconds; None: for ever, or not for ours."""
    text = environ.get("WATCHDOG_USEC")
    if not text or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    # As long as a number of 64 bits is, which Python's own bounds are beyond.
    digits = text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    if not (digits and int(text)):
        logger.warning("WATCHDOG_USEC is no number of microseconds: the watchdog is not answered")
        return None
    seconds = int(text) / 1e6
    if seconds < 4 * HEARTBEAT:
        logger.warning("WatchdogSec is %g s; give it %g at least", seconds, 4 * HEARTBEAT)
    return seconds


def describe(statuses: Sequence[ConnectionStatus]) -> str:
    """One line for `systemctl status`: how many are ready, and which are not, and why."""
    unready = [status for status in statuses if status.state is not State.READY]
    parts = [f"{len(statuses) - len(unready)} of {len(statuses)} connections ready"]
    for status in unready[:_NAMED]:
        why = f" ({status.reason})" if status.reason else ""
        parts.append(f"{status.name} {status.state}{why}")
    if len(unready) > _NAMED:
        parts.append(f"and {len(unready) - _NAMED} more")
    return "; ".join(parts)
