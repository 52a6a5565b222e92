"""What the log says of connections: one WARNING per outage, a summary a minute, one INFO after it.

Everything between is DEBUG. A peer was seen to write 732,000 lines in 30 hours of one outage.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from .state import Event, State

if TYPE_CHECKING:
    from .client import AttemptFailed
    from .connection import Connection
    from .redaction import Redactor

SUMMARY_INTERVAL = 60.0
"""Between two lines about one outage, in seconds."""

_stdlib = logging.getLogger("moorings")
logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _stdlib, wrapper_class=structlog.stdlib.BoundLogger
)


@dataclass(slots=True)
class _Outage:
    began: float
    told: float
    attempts: int = 0


class OutageLog:
    """Follows every connection's outages. Belongs to the trio thread."""

    def __init__(self) -> None:
        self._outages: dict[str, _Outage] = {}
        self._connections: dict[str, Connection] = {}

    def stepped(
        self,
        connection: Connection,
        source: State,
        event: Event,
        cause: BaseException | None,
        redactor: Redactor,
    ) -> None:
        """A transition has been made."""
        if _stdlib.isEnabledFor(logging.DEBUG):
            logger.debug(
                "transition",
                connection=connection.name,
                source=source.value,
                event_name=event.value,
                target=connection.state.value,
                **_why(connection),
            )
        match event:
            case Event.LOST:
                self._begin(connection, "connection lost")
            case Event.CRASHED:
                self._crashed(connection, cause, redactor)
            case Event.ESTABLISHED if self._outages:
                self._end(connection)
            case Event.STOP if self._outages:
                self._outages.pop(connection.name, None)
            case _:
                pass

    def attempt_failed(self, connection: Connection, failure: AttemptFailed) -> None:
        """An attempt to connect has failed; the first one is what people are told."""
        outage = self._outages.get(connection.name)
        if outage is None:
            outage = self._begin(connection, "connection not established")
        outage.attempts += 1
        logger.debug(
            "attempt failed",
            connection=connection.name,
            attempt=connection.status.attempt,
            reason=failure.reason.value,
            error=failure.text,
        )

    def summarise(self, now: float) -> None:
        """Say once a minute that an outage lasts. `now` is `time.monotonic()`."""
        for name, outage in self._outages.items():
            if now - outage.told >= SUMMARY_INTERVAL:
                outage.told = now
                connection = self._connections[name]
                logger.warning(
                    "connection still down",
                    connection=name,
                    seconds=round(now - outage.began, 1),
                    attempts=outage.attempts,
                    **_why(connection),
                )

    def _begin(self, connection: Connection, event: str) -> _Outage:
        known = self._outages.get(connection.name)
        if known is not None:
            return known
        now = time.monotonic()
        outage = self._outages[connection.name] = _Outage(began=now, told=now)
        self._connections[connection.name] = connection
        logger.warning(event, connection=connection.name, **_why(connection))
        return outage

    def _end(self, connection: Connection) -> None:
        outage = self._outages.pop(connection.name, None)
        if outage is not None:
            logger.info(
                "connection ready again" if connection.generation else "connection ready",
                connection=connection.name,
                down_seconds=round(time.monotonic() - outage.began, 3),
                attempts=outage.attempts,
                generation=connection.generation,
            )

    def _crashed(
        self, connection: Connection, cause: BaseException | None, redactor: Redactor
    ) -> None:
        logger.error(
            "connection crashed",
            connection=connection.name,
            exception=redactor.redact(_traceback(cause)) if cause is not None else None,
        )
        self._begin(connection, "connection lost")


def _traceback(cause: BaseException) -> str:
    # Rendered here, without local variables: those are where passwords leak from.
    return "".join(traceback.format_exception(cause)).rstrip()


def _why(connection: Connection) -> dict[str, str]:
    status = connection.status
    why: dict[str, str] = {}
    if status.reason is not None:
        why["reason"] = status.reason.value
    if status.error is not None:
        why["error"] = status.error
    return why
