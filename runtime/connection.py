"""A connection as applications see it: its handle, those who wait for it, and its commands.

What survives an incarnation lives here; the client and the work on it live in the actor, whose
task may crash and be restarted. Every change of state goes through `_step`.
"""

from __future__ import annotations

import time
from threading import get_ident
from typing import TYPE_CHECKING, Any

from .actor import Actor
from .command_turns import CommandTurns
from .hosts import HostEvent, KernelEnded, current_task, give_up_after
from .late_hooks import run_late_hooks
from .measurements import EDGE_INDEX, Measurements
from .replacement import replace
from .standing import Standing
from .state import Event, State, transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..errors import FailureReason
    from ..providers.contract import DocumentsDatabaseBase
    from ..supervisors.policy import RestartWindow
    from ..supervisors.spec import TaskStatus
    from .client import Client
    from .kernel import Kernel
    from .settings import ConnectionSettings

    Hook = Callable[[Any], Awaitable[object]]


# Names for what every transition asks many times: Python 3.11 looks a member up in its enum seven
# times as slowly.
_CONNECTING, _READY = State.CONNECTING, State.READY
_FAILED, _STOPPED = State.FAILED, State.STOPPED


class Connection(Standing):
    """One supervised connection. Made by the manager; satisfies `DocumentsDatabaseProtocol`.

    `status` and `is_ready` may be read from any thread; all else belongs to the host's thread.
    """

    __slots__ = (
        "_actor",
        "_decided",
        "crashes",
        "hooks",
        "hooks_pending",
        "measurements",
        "provider",
        "settings",
        "turns",
    )

    def __init__(
        self,
        name: str,
        settings: ConnectionSettings,
        provider: DocumentsDatabaseBase,
        kernel: Kernel,
    ) -> None:
        super().__init__(name, settings.backend, kernel, required=settings.required)
        self.provider = provider
        self.settings = settings
        self.measurements = Measurements()
        # Optional connections count their own crashes: over the budget they park, not escalate.
        self.crashes: RestartWindow | None = None
        self.hooks: tuple[Hook, ...] = ()
        self.hooks_pending: Client | None = None  # late hooks run on it: nobody is handed it
        self.turns = CommandTurns()
        self._actor: Actor | None = None
        self._decided: HostEvent | None = None  # for those who wait: ready, or never

    # -- the handle ---------------------------------------------------------------------------

    def database(self) -> Any:
        """The native database object, now.

        Raises:
            ConnectionNotReady: the connection is not ready; `status` says why.
            HostMismatch: called from another thread or process than the one it was opened in.
        """
        if self._database is not None and get_ident() == self._kernel.thread:
            return self._database
        self._check_host()
        raise self.not_ready("is not ready")

    async def get_database(self, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """The native database object, as soon as the connection is ready.

        Not a checkpoint when it is ready already. Cancelling it disturbs nobody else.

        Args:
            timeout: how many seconds to wait; None: `runtime.ready_timeout`; `math.inf`: for ever.

        Raises:
            ConnectionNotReady: not ready in time, or stopped, or the manager is closing.
            HostMismatch: called from another thread or process than the one it was opened in.
        """
        if self._database is None or get_ident() != self._kernel.thread:
            await self.wait_ready(timeout)
        return self._database

    async def wait_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait until the connection is ready; arguments and errors as `get_database`."""
        self._check_host()
        if self._database is not None:
            return
        seconds = self._kernel.ready_timeout if timeout is None else timeout
        self.check_waitable()
        self.check_not_in_hook()
        await give_up_after(seconds, self._until_ready)
        if not self.is_ready():
            raise self.not_ready(f"was not ready within {seconds:g} s")

    async def _until_ready(self) -> None:
        while self._database is None:
            if self._decided is None:
                self._decided = HostEvent()
            await self._decided.wait()
            self.check_waitable()

    def check_kept(self) -> None:
        """Refuse what would need a connection that has left.

        Raises:
            ConnectionNotReady: a reload has removed it.
        """
        if self.gone:
            raise self.not_ready("was removed by a reload of the settings")

    def check_waitable(self) -> None:
        """Refuse to wait for what will not come.

        Raises:
            ConnectionNotReady: the connection is stopped or removed, or the manager is closing.
        """
        self.check_kept()
        if self._kernel.closing or self.state is State.STOPPED:
            raise self.not_ready("is closing" if self._kernel.closing else "is stopped")

    def check_not_in_hook(self) -> None:
        """Refuse a hook that would wait for itself.

        Raises:
            RuntimeError: the caller is one of our hooks.
        """
        hooking = self._kernel.hooking
        if hooking and hooking.get(current_task()) is self:
            raise RuntimeError(
                f"a hook of connection {self.name!r} waits for the connection, which waits for the "
                "hook: use the database that the hook is called with"
            )

    # -- commands -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Start a stopped connection; returns at `connecting`. A no-op on any other.

        Raises:
            ConnectionNotReady: the manager is closing.
        """
        await self._command(self._start)

    async def stop(self) -> None:
        """Stop the connection; returns when its client is closed. A no-op when stopped.

        Waiters are told at once. Cancellation gives up the waiting; the closing goes on.
        """
        await self._command(self._stop)

    async def restart(self) -> None:
        """Replace the client by a new one, with newly resolved settings.

        A ready connection stays `ready`: the new client is built and verified and the hooks run
        on it before it takes over; then the old one is closed. Any other connection begins a new
        episode with a new client, and this returns at `connecting`. Cancellation before the swap
        leaves the old client in place.

        Raises:
            ConnectionNotReady: the new client did not come up; the old one stays in place.
            RuntimeError: called by one of its own hooks.
        """
        self.check_not_in_hook()
        await self._command(self._restart)

    async def _command(self, command: Callable[[], Awaitable[None]]) -> None:
        """Run a command in the kernel's world, one at a time."""
        self._check_host()
        if self._kernel.closing:
            raise self.not_ready("is closing")
        try:
            await self._kernel.host.command(self.turns.take, command)
        except KernelEnded as ended:
            raise self.not_ready("is closing") from ended

    async def _start(self) -> None:
        self.check_kept()
        if self.state is State.STOPPED:
            await self._kernel.start(self)

    async def _stop(self) -> None:
        if not self.gone:  # else it is stopped by whoever removes it, before it is our turn
            await self._kernel.stop(self)

    async def _restart(self) -> None:
        self.check_kept()
        while self._actor is None and self.state is not State.STOPPED:
            # Between two incarnations, or before the first: the next makes a new client.
            await self.next_change()
            if self.state is State.CONNECTING:
                return
        if self._actor is None:
            await self._kernel.start(self)
        else:
            await replace(self._actor)

    # -- hooks --------------------------------------------------------------------------------

    def on_ready(self, hook: Hook) -> Hook:
        """Run `await hook(database)` once per generation, before anybody sees `ready`.

        Hooks run in the order of their registration, each for at most `runtime.hook_timeout`
        seconds. An error that the provider classifies, or the timeout, is a failed attempt; any
        other is a crash. On a ready connection the hook runs at once, and those who ask for the
        database from then on wait for it. Usable as a decorator.

        Raises:
            TypeError: `hook` cannot be called.
        """
        self._check_host()
        if not callable(hook):  # said here, and not by a crash of the connection later on
            raise TypeError(f"a hook is an async function of the database, and not {hook!r}")
        self.hooks = (*self.hooks, hook)
        if self._actor is not None and self.state is State.READY:
            run_late_hooks(self._actor)
        return hook

    # -- the supervisor's side ----------------------------------------------------------------

    def run(self, *, task_status: TaskStatus) -> Awaitable[None]:
        """One incarnation: what the child spec runs."""
        return Actor(self, self._kernel).run(task_status)

    def ask(self) -> None:
        """Let the incarnation end: what the child spec asks."""
        if self._actor is not None:
            self._actor.stop()

    # -- the actor's side ---------------------------------------------------------------------

    def _step(
        self,
        event: Event,
        *,
        reason: FailureReason | None = None,
        error: str | None = None,
        cause: BaseException | None = None,
        database: Any = None,
    ) -> None:
        """Take one edge of the state machine, and tell everybody.

        Entering `ready` brings the database to hand out; every other step withdraws it.
        """
        source = self.state
        target = self.state = transition(source, event)
        self._since = time.time()
        self._attempt = 1 if target is _CONNECTING else 0
        if target is not _FAILED:
            self._next_attempt_at = None
        if reason is not None or target is _READY or target is _STOPPED:
            self._reason = reason
            self._error = error
        self.measurements.transitions[EDGE_INDEX[source, target]] += 1
        if database is not self._database:
            self._serve(database)
        if target is _STOPPED:
            self.release_waiters()
        self._refresh()
        self._kernel.announcer.stepped(self, source, event, target, cause)

    def _serve(self, database: Any) -> None:
        """Hand out `database` from now on; None: nothing."""
        withheld = self.hooks_pending is not None or self._kernel.closing or self.gone
        self._database = None if withheld else database
        self._kernel.serve(self.name, self._database)
        if self._database is not None:
            self.release_waiters()

    def release_waiters(self) -> None:
        """Wake those who wait for `ready`, all together: it has come, or it will not."""
        decided, self._decided = self._decided, None
        if decided is not None:
            decided.set()
