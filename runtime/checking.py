"""`moorings check`: bring every connection up once, and say how it went.

On trio; backends that work on asyncio alone are checked there, after the others.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..errors import UnknownConnection, did_you_mean
from ..providers.registry import DocumentDatabaseRegistry
from .exits import ExitStatus, status_of_reason
from .hosting import Hosted
from .hosts import give_up_after
from .lifecycle import running
from .opening import build
from .settings import StartupMode
from .state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .connection import Connection
    from .loading import LoadedSettings
    from .manager import ConnectionManager
    from .redaction import Redactor
    from .status import ConnectionStatus

# What nobody but a person can mend is said first.
_WORST_FIRST = (
    ExitStatus.CONFIG,
    ExitStatus.NO_PERMISSION,
    ExitStatus.SOFTWARE,
    ExitStatus.NO_HOST,
    ExitStatus.UNAVAILABLE,
)


@dataclass(frozen=True, slots=True)
class Checked:
    """How one connection's check ended.

    Attributes:
        status: the connection's snapshot when it was decided.
        seconds: how long that took.
        decides: whether it decides the exit status.
    """

    status: ConnectionStatus
    seconds: float
    decides: bool


def check_connections(
    loaded: LoadedSettings, names: Sequence[str], redactor: Redactor, wait: float | None = None
) -> tuple[Checked, ...]:
    """Connect each connection once; nothing is served.

    Args:
        loaded: the settings.
        names: which ones; none: all of them.
        redactor: learns the secrets.
        wait: None: one episode each; else keep trying for so many seconds.

    Raises:
        UnknownConnection: no enabled connection has one of the names.
        RestartIntensityExceeded: a bug kept crashing one of them.
    """
    _check_names(loaded, names)
    give_up_at = time.monotonic() + (math.inf if wait is None else wait)
    checked: dict[str, Checked] = {}
    for host, here in _by_host(loaded, names).items():
        left = None if wait is None else max(give_up_at - time.monotonic(), 0.0)
        check = partial(_check, _narrowed(loaded, here), host, bool(names), redactor, left)
        done = trio.run(check) if host == "trio" else asyncio.run(check())
        checked |= {one.status.name: one for one in done}
    return tuple(checked[name] for name in loaded.settings.database.documents if name in checked)


def exit_status(checked: Sequence[Checked]) -> ExitStatus:
    """0 if all that decide are ready; else the status of the one that most needs a human."""
    found = {
        status_of_reason(c.status.reason)
        for c in checked
        if c.decides and c.status.state is not State.READY
    }
    return next((status for status in _WORST_FIRST if status in found), ExitStatus.OK)


def _check_names(loaded: LoadedSettings, names: Sequence[str]) -> None:
    enabled = {name for name, c in loaded.settings.database.documents.items() if c.enabled}
    for name in names:
        if name not in enabled:
            raise UnknownConnection(
                f"there is no enabled connection {name!r}. {did_you_mean(name, enabled)}"
            )


def _by_host(loaded: LoadedSettings, names: Sequence[str]) -> dict[str, list[str]]:
    """Which connections to check on which host; hosts without any are left out."""
    registry = DocumentDatabaseRegistry.default()
    found: dict[str, list[str]] = {"trio": [], "asyncio": []}
    for name, connection in loaded.settings.database.documents.items():
        if connection.enabled and (not names or name in names):
            on_trio = "trio" in registry.get(connection.backend).hosts
            found["trio" if on_trio else "asyncio"].append(name)
    return {host: here for host, here in found.items() if here}


def _narrowed(loaded: LoadedSettings, names: Collection[str]) -> LoadedSettings:
    documents = loaded.settings.database.documents
    chosen = {name: c for name, c in documents.items() if name in names}
    database = loaded.settings.database.model_copy(update={"documents": chosen})
    return replace(loaded, settings=loaded.settings.model_copy(update={"database": database}))


async def _check(
    loaded: LoadedSettings,
    host: str,
    named: bool,
    redactor: Redactor,
    wait: float | None,
) -> tuple[Checked, ...]:
    manager = build(loaded, DocumentDatabaseRegistry.default(), host, (), redactor)
    # Only the connections, and no waiting but our own.
    settings = loaded.settings.runtime.model_copy(update={"startup": StartupMode.BACKGROUND})
    living = partial(running, manager.kernel, settings)
    async with living() if host == "trio" else Hosted(manager.kernel, living):
        return await _outcomes(manager, named, wait)


async def _outcomes(
    manager: ConnectionManager,
    named: bool,
    wait: float | None,
) -> tuple[Checked, ...]:
    began = time.monotonic()
    settled = {State.READY} if wait is not None else {State.READY, State.FAILED}
    connections = [manager[name] for name in manager]
    done: dict[str, Checked] = {}

    def note(is_due: Callable[[Connection], bool]) -> None:
        seconds = time.monotonic() - began
        for one in connections:
            if one.name not in done and is_due(one):
                done[one.name] = Checked(one.status, seconds, named or one.required)

    async def until_settled() -> None:
        while True:
            note(lambda one: one.state in settled)
            if len(done) == len(connections):
                return
            await manager.kernel.next_change()

    # Without `wait` the episodes end by themselves: every attempt has its bounds.
    await give_up_after(math.inf if wait is None else wait, until_settled)
    note(lambda _: True)
    return tuple(done.values())
