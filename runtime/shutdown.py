"""How a program that owns its process is made to end: signals, and the bound on its shutdown.

Knows no event loop: what a signal begins there, its caller says. Signal handlers of Python's own
and not the loops', which need a loop that runs: a function that holds it would neither be ended by
the watchdog nor by a second signal.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .exits import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .manager import ConnectionManager
    from .settings import RuntimeSettings

logger = logging.getLogger("moorings")

# The watchdog fires this much after the shutdown's own bound, in seconds: a shutdown that ends
# at its bound must be able to say so first.
_GRACE = 0.25

_LAST_WORDS = 1.0
"""How long what is still to be said may hold up the process's end, in seconds."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Shutdown:
    """The end of one program, from its first signal on.

    Args:
        runtime: the settings.
        begun: called in the loop when the end begins; a second time where a drain comes first.

    Attributes:
        manager: the program's, once there is one.
        drain_delay: how long the program goes on after the first signal, in seconds.
    """

    def __init__(
        self, runtime: RuntimeSettings, begun: Callable[[], object] = lambda: None
    ) -> None:
        self.manager: ConnectionManager | None = None
        self.drain_delay = runtime.drain_delay
        self._timeout = runtime.shutdown_timeout
        self._told_begun = begun
        self._watchdog: threading.Timer | None = None
        self._signalled = False

    @contextmanager
    def heeding(self, begin_drain: Callable[[int], object]) -> Iterator[None]:
        """First signal: `begin_drain(number)`, from inside a signal handler. Second: leave."""

        def heed(number: int, _: object) -> None:
            # Between any two instructions of whatever runs: others' locks may be held, so that
            # nothing is logged here.
            if self._signalled:
                threading.Thread(target=self._leave_for, args=(number,), daemon=True).start()
                return
            self._signalled = True
            self._arm(self.drain_delay)
            begin_drain(number)

        before = {number: signal.signal(number, heed) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def drain(self, number: int) -> None:
        """Say so, and let the probes say 503. In the loop."""
        logger.info("%s: shutting down", signal.Signals(number).name)
        self._told_begun()
        if self.manager is not None:
            self.manager.kernel.draining = True

    def begin(self) -> None:
        """The function is over: from now on the shutdown is bounded. In the loop."""
        self._told_begun()
        self._arm(0.0)

    def finished(self) -> None:
        """Everything has stopped in time."""
        if self._watchdog is not None:
            self._watchdog.cancel()

    def _arm(self, delay: float) -> None:
        """From now on the process lives no longer than the shutdown may take.

        Once: a signal may come while a shutdown is under way, or begin it.
        """
        if self._watchdog is not None:
            return
        seconds = delay + self._timeout + _GRACE
        if seconds < threading.TIMEOUT_MAX:  # else for ever: centuries, to be exact
            self._watchdog = threading.Timer(seconds, self._overdue)
            self._watchdog.daemon = True
            self._watchdog.start()

    def _overdue(self) -> None:
        # In a thread: whatever does not stop may well be holding the loop.
        with _leaving(ExitStatus.SOFTWARE):
            statuses = self.manager.statuses() if self.manager else ()
            names = [s.name for s in statuses if s.state != "stopped"]
            logger.critical(
                "not stopped within %g s: %s; leaving",
                self._timeout,
                ", ".join(names) or "the program's function",
            )
            self._flush_log()

    def _leave_for(self, number: int) -> None:
        with _leaving(128 + number):
            logger.warning("%s again: leaving at once", signal.Signals(number).name)
            self._flush_log()

    def _flush_log(self) -> None:
        if self.manager is not None:
            self.manager.kernel.announcer.flush_log()


@contextmanager
def _leaving(status: int) -> Iterator[None]:
    """End the process after the block, with what was said so far written out where it is read.

    Whoever read it may have gone, or have paused; and what is stuck may hold a stream's lock.
    """
    bound = threading.Timer(_LAST_WORDS, os._exit, (status,))
    bound.daemon = True
    try:
        bound.start()
        yield
        for write_out in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
            with suppress(OSError, ValueError):
                write_out()
    finally:
        os._exit(status)
