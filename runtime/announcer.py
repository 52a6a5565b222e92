"""Who is told what happens to connections: the observers, and the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .outages import OutageLog
from .status import Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .client import AttemptFailed
    from .connection import Connection
    from .redaction import Redactor
    from .state import Event, State

    Observer = Callable[[Transition], object]

logger = logging.getLogger("moorings")


class Announcer:
    """Tells observers and the log. Belongs to the trio thread, but for `flush_log`."""

    def __init__(self, observers: Iterable[Observer], redactor: Redactor) -> None:
        self._observers = list(observers)
        self._outages = OutageLog(redactor)

    def observe(self, observer: Observer) -> None:
        """Tell one more of every transition from now on. From the host's thread."""
        self._observers.append(observer)

    def stepped(
        self,
        connection: Connection,
        source: State,
        event: Event,
        target: State,
        cause: BaseException | None,
    ) -> None:
        """Tell of a transition."""
        self._outages.stepped(connection, source, event, cause)
        if self._observers:
            self._observe(
                Transition(connection.name, source, event, target, connection.status, cause)
            )

    def _observe(self, transition: Transition) -> None:
        for observer in tuple(self._observers):
            try:
                observer(transition)
            except Exception:
                # Never fatal, never twice: a broken observer must not take connections along.
                self._observers.remove(observer)
                logger.exception("removed a broken observer: %r", observer)

    def attempt_failed(self, connection: Connection, failure: AttemptFailed) -> None:
        """Tell of an attempt that was not the last."""
        self._outages.attempt_failed(connection, failure)

    def parked(self, connection: Connection, text: str) -> None:
        """Tell of an optional connection that has used its restart budget up."""
        self._outages.parked(connection, text)

    def summarise(self, now: float) -> None:
        """Say once a minute which outages last. `now` is `time.monotonic()`."""
        self._outages.summarise(now)

    def flush_log(self) -> None:
        """Tell the log what was kept back after a crash. From any thread."""
        self._outages.flush()
