"""What the probes answer: pure decisions over cached state, in one shape for all three."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Protocol

from .state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .status import ConnectionStatus

_logger = logging.getLogger("moorings.http")

KERNEL = "kernel"
"""The check that stands for the runtime itself, beside the connections' and the application's."""


class Probed(Protocol):
    """What the probes ask a manager; nothing here waits or does I/O."""

    @property
    def closing(self) -> bool:
        """Whether it drains or closes."""

    @property
    def checks(self) -> Mapping[str, Callable[[], object]]:
        """The application's own checks, by name."""

    def statuses(self) -> tuple[ConnectionStatus, ...]:
        """Every connection's snapshot."""

    def is_alive(self) -> bool:
        """Whether the kernel runs and its heartbeat is fresh."""

    def is_started(self) -> bool:
        """Whether every connection has left `init`."""


def livez(manager: Probed) -> dict[str, Any]:
    """The kernel's heartbeat, and nothing else: a restart mends no database."""
    return _answer(_kernel(manager), {})


def startupz(manager: Probed) -> dict[str, Any]:
    """Whether every connection has begun; ready or not does not matter here."""
    checks, reasons = {}, {}
    for status in manager.statuses():
        begun = status.state is not State.INIT
        checks[status.name] = "ok" if begun else "fail"
        if not begun:
            reasons[status.name] = State.INIT.value
    if not manager.is_started() and not reasons:
        reasons[KERNEL] = "starting"
    return _answer(reasons, checks)


def readyz(manager: Probed) -> dict[str, Any]:
    """Whether the program may be sent work: all required connections, and its own checks."""
    failed = _kernel(manager)
    if manager.closing:
        failed.setdefault(KERNEL, "closing")
    checks, skipped = {}, {}
    for status in manager.statuses():
        if status.state is State.READY:
            checks[status.name] = "ok"
        elif status.required:
            failed[status.name] = _why(status)
        else:
            checks[status.name] = "skipped"
            skipped[status.name] = _why(status)
    for name, check in manager.checks.items():
        problem = _problem(name, check)
        if problem is None:
            checks[name] = "ok"
        else:
            failed[name] = problem
    return _answer(failed, checks, skipped)


def _kernel(manager: Probed) -> dict[str, str]:
    return {} if manager.is_alive() else {KERNEL: "no heartbeat"}


def _why(status: ConnectionStatus) -> str:
    return (status.reason or status.state).value


def _problem(name: str, check: Callable[[], object]) -> str | None:
    try:
        answer = check()
    except Exception as error:
        # Only the type: a text may hold what strangers must not read.
        _logger.debug("check %r raised", name, exc_info=True)
        return type(error).__name__
    if inspect.iscoroutine(answer):
        answer.close()
        return "not a synchronous check"
    return "false" if answer is False else None


def _answer(
    failed: dict[str, str], checks: dict[str, str], skipped: Mapping[str, str] | None = None
) -> dict[str, Any]:
    return {
        "status": "unhealthy" if failed else "healthy",
        "checks": {**checks, **dict.fromkeys(failed, "fail")},
        "reasons": {**(skipped or {}), **failed},
    }
