"""What a web application answers while a database is down: 503, when to come back, and why.

"Why" is the connection's name and its reason: texts of errors hold hosts, and are for the log.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse

from ..errors import ConnectionNotReady, FailureReason
from .manager import ConnectionManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .status import ConnectionStatus

_logger = logging.getLogger("moorings.web")

STATE: Final = "connections"
"""The name of the manager in `app.state` and in the lifespan's state."""

# The others need a human: coming back does not help, and 500 is what alerts look at.
_PASSING: Final = frozenset(
    reason for reason in FailureReason if not reason.needs_human and reason != FailureReason.BUG
)


SOON: Final = 5
"""When to come back to a database whose return ends its backoff at once, in seconds at most."""


def find_manager(scope: Scope) -> ConnectionManager | None:
    """The manager of the application that `scope` belongs to, if there is one.

    The lifespan's state first: a mounted application has an `app.state` of its own.
    """
    of_app = getattr(scope.get("app"), "state", None)
    for found in ((scope.get("state") or {}).get(STATE), getattr(of_app, STATE, None)):
        if isinstance(found, ConnectionManager):
            return found
    return None


def detail(status: ConnectionStatus | None) -> str:
    """One line for strangers: which connection, and the reason."""
    if status is None:
        return "the databases are not ready"
    return f"connection {status.name!r} is not ready: {status.reason or status.state}"


def retry_after(status: ConnectionStatus | None) -> dict[str, str]:
    """The header that says when to come back: at the next attempt, if one is set; at least 1 s.

    At most `SOON` where the server's return would end the backoff before that.
    """
    upcoming = None if status is None else status.next_attempt_at
    seconds = 1 if upcoming is None else max(1, math.ceil(upcoming - time.time()))
    if status is not None and status.reason is not None and status.reason.heals_by_itself:
        seconds = min(seconds, SOON)
    return {"Retry-After": str(seconds)}


def unavailable(text: str, headers: Mapping[str, str] | None) -> JSONResponse:
    """503 in the shape of FastAPI's own errors."""
    return JSONResponse({"detail": text}, 503, headers)


class OutageMiddleware:
    """Answers 503 with `Retry-After` where a request failed because a database is down.

    Such are `ConnectionNotReady`, and what a driver raised and a provider of the application's
    connections calls an outage that passes: refused, timed out, no server selected. An exception
    group is one if each of its errors is. All else passes as it is, and so does everything once
    the answer has begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            answer = None if started else _answer(error, find_manager(scope))
            if answer is None:
                raise
            _logger.debug("%s %s: 503", scope["method"], scope["path"], exc_info=True)
            await answer(scope, receive, send)


def _answer(error: Exception, manager: ConnectionManager | None) -> JSONResponse | None:
    answers = [_answer_to(leaf, manager) for leaf in _leaves(error)]
    return answers[0] if all(answers) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _answer_to(error: BaseException, manager: ConnectionManager | None) -> JSONResponse | None:
    if isinstance(error, ConnectionNotReady):
        return unavailable(detail(error.status), retry_after(error.status))
    reason = None if manager is None else _reason(error, manager)
    if reason is None:
        return None
    # Which connection's call it was, the error does not say.
    return unavailable(f"a database failed: {reason}", retry_after(None))


def _reason(error: BaseException, manager: ConnectionManager) -> FailureReason | None:
    """Why a database failed; None: none did, or a human has to mend it."""
    if type(error).__module__.partition(".")[0] in sys.stdlib_module_names:
        return None  # a `TimeoutError` may come from anywhere: no driver's is a bare one
    reasons = (manager[name].provider.classify(error) for name in manager)
    return next((reason for reason in reasons if reason in _PASSING), None)
