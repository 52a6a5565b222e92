"""What a reload does to the kernel and its connections: others, and others' settings."""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..supervisors.policy import RestartWindow
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..providers.contract import DocumentsDatabaseBase
    from .connection import Connection
    from .kernel import Kernel
    from .settings import ConnectionSettings


def regroup(kernel: Kernel, connections: dict[str, Connection], names: Iterable[str]) -> None:
    """Have these of `connections`, in this order."""
    # Replaced, never mutated: other threads look at it.
    kernel.connections = {name: connections[name] for name in names}


def choose_default(kernel: Kernel, name: str | None) -> None:
    """Let `name` be the connection that is meant when none is named; None: there is none."""
    kernel.default = name
    kernel.serving.pop(None, None)
    if name in kernel.serving:
        kernel.serving[None] = kernel.serving[name]


def reconfigure(connection: Connection, settings: ConnectionSettings) -> None:
    """Go by other settings from now on, with the same client: the next ping or episode does."""
    kernel = connection._kernel
    old, connection.settings = connection.settings, settings
    connection.required = settings.required
    kernel.configure(connection)
    if (old.required, old.supervision) != (settings.required, settings.supervision):
        _rebudget(kernel, connection)
    if connection._actor is not None:
        connection._actor.retune(old)
    connection._refresh()


def _rebudget(kernel: Kernel, connection: Connection) -> None:
    """Let the supervisor go by a connection's present settings, and count its crashes anew."""
    connection.crashes = None
    spec = kernel.spec(connection)
    assert spec.intensity is not None and spec.period is not None  # noqa: S101, PT018 - see there
    # Ended and started anew, the child would lose its client, for which nothing is wrong.
    child = kernel.supervisor._find(connection.name)  # OTP changes specs in place, too
    child.spec = spec
    child.window = RestartWindow(spec.intensity, spec.period)


async def move(
    connection: Connection, settings: ConnectionSettings, provider: DocumentsDatabaseBase
) -> None:
    """Go to another backend: stop, and start there unless it was stopped before.

    In trio, as a command. Must not be cancelled: a stopped connection would be left.

    Raises:
        ConnectionNotReady: the manager is closing, or the connection was removed.
    """
    connection.check_kept()
    was_stopped = connection.state is State.STOPPED
    await connection._kernel.stop(connection)
    connection.backend, connection.provider = settings.backend, provider
    reconfigure(connection, settings)
    if not was_stopped:
        await connection._kernel.start(connection)


def let_go(connection: Connection) -> None:
    """Tell those who wait for a connection that it leaves; `remove` stops it."""
    connection.gone = True
    connection._kernel.leaving.add(connection)
    connection._serve(None)
    connection.release_waiters()
    connection._wake()


async def remove(connection: Connection) -> None:
    """Stop a connection that was let go, and have the kernel forget it. In trio."""
    # At once, and again when a command that was under way, and may have started it, is over.
    await connection._kernel.supervisor.terminate_child(connection.name)
    await connection.turns.take(partial(_forget, connection))


async def _forget(connection: Connection) -> None:
    kernel = connection._kernel
    await kernel.stop(connection)
    kernel.supervisor.delete_child(connection.name)
    kernel.leaving.discard(connection)
