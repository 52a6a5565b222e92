"""`moorings check`: bring every connection up once, and say how it went."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from ..errors import UnknownConnection, did_you_mean
from ..providers.registry import DocumentDatabaseRegistry
from .exits import ExitStatus, status_of_reason
from .lifecycle import running
from .opening import build
from .settings import StartupMode
from .state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    return trio.run(_check, _narrowed(loaded, names), bool(names), redactor, wait)


def exit_status(checked: Sequence[Checked]) -> ExitStatus:
    """0 if all that decide are ready; else the status of the one that most needs a human."""
    found = {
        status_of_reason(c.status.reason)
        for c in checked
        if c.decides and c.status.state is not State.READY
    }
    return next((status for status in _WORST_FIRST if status in found), ExitStatus.OK)


def _narrowed(loaded: LoadedSettings, names: Sequence[str]) -> LoadedSettings:
    documents = loaded.settings.database.documents
    enabled = {name: c for name, c in documents.items() if c.enabled}
    for name in names:
        if name not in enabled:
            raise UnknownConnection(
                f"there is no enabled connection {name!r}. {did_you_mean(name, enabled)}"
            )
    if not names:
        return loaded
    chosen = {name: c for name, c in enabled.items() if name in names}
    database = loaded.settings.database.model_copy(update={"documents": chosen})
    return replace(loaded, settings=loaded.settings.model_copy(update={"database": database}))


async def _check(
    loaded: LoadedSettings,
    named: bool,
    redactor: Redactor,
    wait: float | None,
) -> tuple[Checked, ...]:
    manager = build(loaded, DocumentDatabaseRegistry.default(), "trio", (), redactor)
    # Only the connections, and no waiting but our own.
    settings = loaded.settings.runtime.model_copy(update={"startup": StartupMode.BACKGROUND})
    async with running(manager.kernel, settings):
        return await _outcomes(manager, named, wait)


async def _outcomes(
    manager: ConnectionManager,
    named: bool,
    wait: float | None,
) -> tuple[Checked, ...]:
    began = trio.current_time()
    settled = {State.READY} if wait is not None else {State.READY, State.FAILED}
    done: dict[str, Checked] = {}

    def note(connection: Connection) -> None:
        seconds = trio.current_time() - began
        done[connection.name] = Checked(connection.status, seconds, named or connection.required)

    connections = [manager[name] for name in manager]
    # Without `wait` the episodes end by themselves: every attempt has its bounds.
    with trio.move_on_after(float("inf") if wait is None else wait):
        while len(done) < len(connections):
            for connection in connections:
                if connection.name not in done and connection.state in settled:
                    note(connection)
            if len(done) < len(connections):
                await manager.kernel.next_change()
    for connection in connections:
        if connection.name not in done:
            note(connection)
    return tuple(done[connection.name] for connection in connections)
