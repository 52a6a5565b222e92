"""The actor: one incarnation of a connection, from its start to its stop or crash.

The task, and what others ask of it. How it waits stands in `sleeper`; what it does in each state
in `episode` (connecting), `vigil` (ready) and `recovery` (failed), and between two attempts in
`lookout`. No client outlives the actor that opened it.
"""

# ruff: noqa: SLF001 - the actor is the connection's other half; nobody else changes it

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from ..errors import FailureReason
from ..providers.contract import Signal
from ..providers.references import references
from .backoff import jittered, stale_after
from .client import timed_out
from .episode import connect, note_failure
from .probing import forget_refusal, schedule_probe
from .recovery import back_off
from .sleeper import Sleeper
from .state import Event, State
from .vigil import keep, missed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import tenacity

    from ..supervisors.spec import TaskStatus
    from .client import AttemptFailed, Client
    from .connection import Connection
    from .kernel import Kernel
    from .settings import ConnectionSettings


class Actor(Sleeper):
    """Runs one connection. All of it belongs to the trio thread.

    Attributes:
        cut_off: a first attempt of an episode that took too long.
        backoff: the last long backoff, in seconds; 0 after a success.
        delay: the last delay between two attempts of this episode, in seconds.
        fresh: the next attempt makes a new client.
        misses: pings in a row without an answer.
        probing: a fresh connection is being tried.
        probe_at: when a fresh connection is to be tried after a ping, on trio's clock.
        proof: when life was last proved, on trio's clock.
        replacing: bounds the work on a second client beside the present one.
        rested: the wait before the next ping is behind us.
        retrying: tenacity's object, made by the first failure.
        stale_after: how long we may be `ready` without proof, in seconds.
        suspected: the present ping was asked for by a driver's event.
        unresolved: the last attempt did not get beyond its references.
        until: when the present wait for the server ends, on trio's clock.
    """

    __slots__ = (
        "backoff",
        "connection",
        "cut_off",
        "delay",
        "fresh",
        "misses",
        "probe_at",
        "probing",
        "proof",
        "replacing",
        "rested",
        "retrying",
        "stale_after",
        "suspected",
        "unresolved",
        "until",
    )

    def __init__(self, connection: Connection, kernel: Kernel) -> None:
        super().__init__(kernel)
        health = connection.settings.health
        self.connection = connection
        self.cut_off: AttemptFailed | None = None
        self.backoff = self.delay = self.proof = self.until = 0.0
        self.misses = 0
        self.probe_at = math.inf
        self.probing = False
        self.fresh = self.rested = self.suspected = self.unresolved = False
        self.retrying: tenacity.AsyncRetrying | None = None
        self.replacing: trio.CancelScope | None = None
        self.stale_after = stale_after(
            health.interval, health.jitter, health.timeout, health.failures
        )

    # -- the task -----------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus) -> None:
        """Be the connection until stopped. An error that escapes is a crash."""
        connection = self.connection
        connection._actor = self
        try:
            failed = connection.state is State.FAILED
            connection._step(Event.RETRY if failed else Event.START)
            task_status.started(connection)
            while True:
                self._cut = False
                with trio.CancelScope() as self._bound:
                    while not (self._cut or self.stopping):
                        await _WORK[connection.state](self)
                    if not self._cut:
                        await self._leave(self._bound)
                self._interrupted()
                if self.stopping:
                    return
        except Exception as error:
            await self._crashed(error)
            raise
        finally:
            self.due = math.inf
            self._withdraw()
            # Also when cancelled: nobody asked in time, but the client has to be closed.
            if connection.state is not State.FAILED or self.stopping:
                await self._close()

    def _interrupted(self) -> None:
        """Our scope was cancelled: something else is to be done now, or a call took too long."""
        if self._injected is not None:
            error, self._injected = self._injected, None
            raise error
        calling, self.calling = self.calling, None
        if calling == _CLOSING:
            self.kernel.closer.too_late(self.connection)
        if calling is None or self.stopping:
            return
        failure = timed_out(calling, self.connection.settings.health.timeout)
        if self.connection.state is State.READY:
            missed(self, failure)
        else:
            note_failure(self, failure)
            self.cut_off = failure

    def _withdraw(self) -> None:
        """From here on nobody reaches us any more."""
        self.connection._actor = None
        self._give_up_replacing()

    def _give_up_replacing(self) -> None:
        if self.replacing is not None:
            self.replacing.cancel()

    async def _leave(self, bound: trio.CancelScope) -> None:
        """Stop with no call under way: the scope that we are in bounds the closing as well."""
        connection, kernel = self.connection, self.kernel
        self._withdraw()
        connection._step(Event.STOP)
        client, self.client = self.client, None
        if client is not None:
            self.calling, self.due = _CLOSING, math.inf
            # Not the timers': they may be early.
            bound.deadline = kernel.closer.deadline(connection)
            await kernel.closer.close(connection, client, bounded=True)
            self.calling = None

    async def _close(self) -> None:
        connection = self.connection
        if connection.state is not State.STOPPED:
            connection._step(Event.STOP)
        if self.client is not None:
            client, self.client = self.client, None
            await self.kernel.closer.close(connection, client)

    async def _crashed(self, error: Exception) -> None:
        """No state outlives its task: `failed`, and the client is retired."""
        connection = self.connection
        self.unresolved = False  # it is not for its secrets that it waits from now on
        self._injected = None  # one crash is enough; left, it would keep us from parking
        if connection.state in {State.CONNECTING, State.READY}:
            self.nudged = False  # it was for what ends here; in `failed` somebody waits for it
            connection._step(
                Event.CRASHED,
                reason=FailureReason.BUG,
                error=self.kernel.describe(connection.provider, error),
                cause=error,
            )
        if self.client is not None:
            self.kernel.closer.retire(connection, self.client)
            self.client = None
        self._give_up_replacing()  # a parked actor is still there, and closes no client any more
        if connection.crashes is not None and connection.crashes.add(self.kernel.now()):
            connection.crashes.clear()
            text = self.kernel.describe(connection.provider, error)
            self.kernel.announcer.parked(connection, text)
            await self._wait_for_restart()

    async def _wait_for_restart(self) -> None:
        """An optional connection over its budget stays `failed` until somebody restarts it."""
        with trio.CancelScope() as self._bound:
            while not (self.nudged or self.stopping):
                self.signal = None
                await self.park(math.inf)

    # -- what others ask ----------------------------------------------------------------------

    def stop(self) -> None:
        """End this incarnation: the supervisor's `ask`."""
        self.stopping = True
        self.wake()

    def hear(self, client: Client, signal: Signal) -> None:
        """A driver's event has arrived from its thread."""
        if client is not self.client:
            return  # of a client that was retired in the meantime
        ready = self.connection.state is State.READY
        match signal:
            case Signal.LOST if ready:
                self.lose(FailureReason.NETWORK, "the driver reports no usable server")
                self.wake()
            case Signal.SUSPECT if ready:
                self.signal = signal
                self.rouse()
            case Signal.USABLE if not ready:
                self.signal = signal
                self.rouse()
            case Signal.REFUSED if ready and references(self.connection.settings.provider):
                self.kernel.rotation.hurry()
            case _:
                pass

    def lose(self, reason: FailureReason, text: str, cause: BaseException | None = None) -> None:
        """Leave `ready`: proof of life is missing."""
        self.misses = 0
        self.suspected = False
        self.calling = self.signal = None
        self.connection._step(Event.LOST, reason=reason, error=text, cause=cause)

    def check_proof(self, now: float) -> None:
        """The watchdog: `ready` without proof for longer than the bound does not exist."""
        if now > self.proof + self.stale_after and self.connection.state is State.READY:
            overdue = now - self.proof
            self.lose(FailureReason.TIMEOUT, f"no proof of life for {overdue:.1f} s")
            self.wake()

    def adopt(self, client: Client) -> None:
        """Serve another client from now on; the ping of the old one is given up."""
        self.client = client
        self.calling = None
        self.rested = False
        self.misses = 0
        self.proof = self.kernel.now()
        forget_refusal(self)
        schedule_probe(self)
        if self.watching is None:
            self.wake()
        else:
            self.rouse()

    def retune(self, old: ConnectionSettings) -> None:
        """Go by the connection's settings, which were `old`, from the next ping or episode on."""
        health, now = self.connection.settings.health, self.kernel.now()
        if self.connection.settings.retry != old.retry:
            self.retrying = None
        if health == old.health:
            return
        self.stale_after = stale_after(
            health.interval, health.jitter, health.timeout, health.failures
        )
        if health.probe_interval != old.health.probe_interval:
            schedule_probe(self)
        self.proof = now  # the bound counts from here: the last ping was timed by another one
        if self._parked is not None and self.rested and self.connection.state is State.READY:
            due = now + jittered(health.interval, health.jitter, self.kernel.random)
            self.kernel.timers.set(self, min(self.due, due), now)


_CLOSING = "close"

_WORK: Mapping[State, Callable[[Actor], Awaitable[object]]] = {
    State.CONNECTING: connect,
    State.READY: keep,
    State.FAILED: back_off,
}
