"""The actor: one incarnation of a connection, from its start to its stop or crash.

It does the I/O that the state machine asks for. A first success costs no retry machinery: tenacity
is entered with the first failure in hand. Every provider call is bounded by a cancel scope, every
wait by a timer, and no client outlives the actor that opened it.
"""

from __future__ import annotations

import time
from time import perf_counter
from typing import TYPE_CHECKING, Any

import tenacity
import trio

from ..errors import ConnectionNotReady, FailureReason
from ..providers.contract import Signal
from ..providers.references import references
from .backoff import decorrelated, jittered, stale_after
from .client import AttemptFailed, Client, failure_of, timed_out
from .state import Event, State

if TYPE_CHECKING:
    from ..supervisors.spec import TaskStatus
    from .connection import Connection, Hook
    from .kernel import Kernel

# ruff: noqa: SLF001 - the actor is the connection's other half: what it changes there, nobody else may


class Actor:
    """Runs one connection. All of it belongs to the trio thread."""

    __slots__ = (
        "_bound",
        "_client",
        "_connection",
        "_delay",
        "_fresh",
        "_injected",
                "_nudged",
        "_parked",
        "_proof",
        "_retrying",
        "_signal",
        "_stale_after",
        "_until",
        "due",
        "kernel",
    )

    def __init__(self, connection: Connection, kernel: Kernel) -> None:
        self._connection = connection
        self.kernel = kernel
        self._client: Client | None = None
        self._delay = 0.0  # the last backoff, in seconds
        self._until = 0.0  # when the long backoff ends, on trio's clock
        self._proof = 0.0  # when life was last proved, on trio's clock
        health = connection.settings.health
        self._stale_after = stale_after(
            health.interval, health.jitter, health.timeout, health.failures
        )
        self._fresh = False  # the next attempt makes a new client
        self._nudged = False  # somebody wants the present wait to end
        self._signal: Signal | None = None
        self._injected: BaseException | None = None  # to be raised in this task: a hook's bug
        self._bound: trio.CancelScope | None = None  # around the ping under way
        self._parked: trio.lowlevel.Task | None = None
        self._retrying: tenacity.AsyncRetrying | None = None
        self.due = 0.0

    # -- the task -----------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus) -> None:
        """Be the connection until cancelled. An error that escapes is a crash."""
        connection = self._connection
        connection._actor = self
        try:
            if connection.state is not State.CONNECTING:
                retry = connection.state is State.FAILED
                connection._step(Event.RETRY if retry else Event.START)
            task_status.started(connection)
            while True:
                match connection.state:
                    case State.CONNECTING:
                        await self._connect()
                    case State.READY:
                        await self._keep()
                    case _:
                        await self._back_off()
        except trio.Cancelled:
            connection._step(Event.STOP)
            await self._close_bounded()
            raise
        except Exception as error:
            await self._crashed(error)
            raise
        finally:
            connection._actor = None
            if self._client is not None:
                self._client.actor = None

    async def _crashed(self, error: Exception) -> None:
        """No state outlives its task: `failed`, and the client is retired."""
        connection = self._connection
        if connection.state in {State.CONNECTING, State.READY}:
            connection._step(
                Event.CRASHED,
                reason=FailureReason.BUG,
                error=self.kernel.describe(connection.provider, error),
                cause=error,
            )
        if self._client is not None:
            self.kernel.retire(connection, self._client)
            self._client = None
        if connection.crashes is not None and connection.crashes.add(trio.current_time()):
            await self._parked_until_restart(error)

    async def _parked_until_restart(self, error: Exception) -> None:
        """An optional connection over its budget stays `failed` until somebody restarts it."""
        connection = self._connection
        assert connection.crashes is not None
        connection.crashes.clear()
        self.kernel.log_parked(connection, error)
        self._signal, self._nudged = None, False
        try:
            while not self._nudged:
                await self._park(float("inf"))
                self._signal = None
        except trio.Cancelled:
            connection._step(Event.STOP)
            raise

    # -- connecting ---------------------------------------------------------------------------

    async def _connect(self) -> None:
        """One episode: attempts until one succeeds or the retry settings are used up."""
        try:
            await self._attempt()
        except AttemptFailed as first:
            failure = await self._retry(first)
            if failure is not None and self._connection.state is State.CONNECTING:
                self._give_up(failure)

    async def _retry(self, first: AttemptFailed) -> AttemptFailed | None:
        """Try again after a first failure; the failure to give up with, or None on success."""
        pending: list[AttemptFailed] = [first]

        async def attempt() -> None:
            # tenacity's first call replays the failure that brought us here.
            if pending:
                raise pending.pop()
            await self._attempt()

        if self._retrying is None:
            self._retrying = self._make_retrying()
        try:
            await self._retrying(attempt)
        except AttemptFailed as failure:
            return failure
        return None

    def _make_retrying(self) -> tenacity.AsyncRetrying:
        retry = self._connection.settings.retry

        def wait(_: tenacity.RetryCallState) -> float:
            self._delay = decorrelated(self._delay, retry.initial, retry.max, self.kernel.random)
            return self._delay

        # Whitelisted by type: tenacity catches BaseException, and trio.Cancelled must pass. By
        # attempts only: its delay limits read the wall clock.
        return tenacity.AsyncRetrying(
            sleep=self._nap,
            stop=tenacity.stop_after_attempt(retry.attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(
                lambda e: isinstance(e, AttemptFailed) and not e.reason.needs_human
            ),
            reraise=True,
        )

    async def _nap(self, seconds: float) -> None:
        """The wait between two attempts; a usable server or a command ends it."""
        self._connection._note(next_attempt_at=time.time() + seconds)
        self._connection.measurements.retry_delay = seconds
        await self._park(trio.current_time() + seconds)
        self._signal, self._nudged = None, False

    async def _attempt(self) -> None:
        """Open (if need be), ping, verify, run the hooks; `ready`, or AttemptFailed."""
        connection, kernel = self._connection, self.kernel
        began = perf_counter()
        connection._attempt += 1
        try:
            client = await self._brought_up()
        except AttemptFailed as failure:
            connection.measurements.connect_failures += 1
            connection._note(reason=failure.reason, error=failure.text)
            kernel.attempt_failed(connection, failure)
            raise
        connection.measurements.connects += 1
        connection.measurements.connect_seconds.observe(perf_counter() - began)
        self._establish(client)

    async def _brought_up(self) -> Client:
        """The present client, or a new one where one is due, after it has proved itself."""
        connection, kernel = self._connection, self.kernel
        while True:
            settings = connection.settings.provider
            if references(settings):
                settings = await self._resolved(settings)
            client = self._client
            if client is not None and (self._fresh or client.settings != settings):
                kernel.retire(connection, client)
                client = None
            self._fresh = False
            if client is None:
                client = self._client = Client(self, settings)
            await client.bring_up(connection, kernel)
            if not self._fresh:  # nobody has asked for a restart in the meantime
                return client

    async def _resolved(self, settings: Any) -> Any:
        """The settings with their references resolved anew: a mended secret heals by itself."""
        try:
            return await self.kernel.resolve(settings)
        except Exception as error:  # noqa: BLE001 - re-raised unless it has a reason
            failure = failure_of(self.kernel, self._connection, error)
            raise failure from failure.__cause__

    def _establish(self, client: Client) -> None:
        self._delay = 0.0
        self._signal, self._nudged = None, False
        self._proof = trio.current_time()
        connection = self._connection
        connection.measurements.retry_delay = 0.0
        if not client.counted:
            client.counted = True
            connection._generation += 1
        connection._step(Event.ESTABLISHED, database=client.database)

    def _give_up(self, failure: AttemptFailed) -> None:
        self._connection._step(
            Event.GAVE_UP,
            reason=failure.reason,
            error=failure.text,
            cause=failure.__cause__,
        )
        self._delay = 0.0

    # -- ready --------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Prove life by pings; `lost` after too many misses, or when the driver says so."""
        connection = self._connection
        health = connection.settings.health
        misses = 0
        while connection.state is State.READY:
            self._raise_injected()
            failure = await self._ping_until_missed(wait_first=misses == 0)
            if failure is None:
                continue
            misses += 1
            suspect, self._signal = self._signal is Signal.SUSPECT, None
            connection.measurements.ping_failed(failure.reason)
            if suspect or failure.suspicion or misses >= health.failures:
                self.lose(failure.reason, failure.text, failure.__cause__)

    async def _ping_until_missed(self, *, wait_first: bool) -> AttemptFailed | None:
        """Ping at every interval; the first miss is returned. None: look at the state again.

        One scope serves all pings up to a miss, by moving its deadline: a scope per ping would
        cost more than the ping's own bookkeeping.
        """
        connection, kernel = self._connection, self.kernel
        health, client = connection.settings.health, self._client
        assert client is not None
        ping, native = connection.provider.ping, client.native
        suspicion = False
        try:
            with trio.CancelScope() as bound:
                self._bound = bound
                while True:
                    if wait_first:
                        pause = jittered(health.interval, health.jitter, kernel.random)
                        await self._park(trio.current_time() + pause)
                        if connection.state is not State.READY or self._client is not client:
                            return None
                        suspicion, self._signal = self._signal is Signal.SUSPECT, None
                    wait_first = True
                    began = perf_counter()
                    bound.deadline = trio.current_time() + health.timeout
                    await ping(native)
                    bound.deadline = float("inf")
                    self._proved(perf_counter() - began)
            failure = timed_out("ping", health.timeout)
        except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
            failure = failure_of(kernel, connection, error)
        finally:
            self._bound = None
        if connection.state is not State.READY or self._client is not client or self._injected:
            return None  # interrupted rather than missed
        failure.suspicion = suspicion
        return failure

    def _proved(self, seconds: float) -> None:
        """A ping came back."""
        self._proof = trio.current_time()
        connection = self._connection
        connection._last_ping = seconds
        measurements = connection.measurements
        measurements.pings += 1
        measurements.ping_seconds.observe(seconds)
        measurements.last_ping_at = time.time()

    def lose(
        self, reason: FailureReason, text: str, cause: BaseException | None = None
    ) -> None:
        """Leave `ready`: proof of life is missing."""
        self._connection._step(Event.LOST, reason=reason, error=text, cause=cause)

    def check_proof(self, now: float) -> None:
        """The watchdog: `ready` without proof for longer than the bound does not exist."""
        if now > self._proof + self._stale_after and self._connection.state is State.READY:
            overdue = now - self._proof
            self.lose(FailureReason.TIMEOUT, f"no proof of life for {overdue:.1f} s")
            self._interrupt()

    # -- failed -------------------------------------------------------------------------------

    async def _back_off(self) -> None:
        """Wait the long backoff out, or until a usable server or a command ends it."""
        connection, supervision = self._connection, self._connection.settings.supervision
        self._signal = None
        self._delay = decorrelated(
            self._delay, supervision.backoff_initial, supervision.backoff_max, self.kernel.random
        )
        self._set_until(self._delay)
        heals = connection._reason is not None and connection._reason.heals_by_itself
        if heals and self._client is not None and self._client.native is not None:
            await self._wait_for_server(self._client)
        else:
            while not self._nudged and trio.current_time() < self._until:
                await self._park(self._until)
                self._signal = None
        self._signal, self._nudged = None, False
        connection._step(Event.RETRY)

    def _set_until(self, delay: float) -> None:
        self._until = trio.current_time() + delay
        self._connection.measurements.retry_delay = delay
        self._connection._note(next_attempt_at=time.time() + delay)

    async def _wait_for_server(self, client: Client) -> None:
        """The backoff of a reason that heals by itself: one connection per endpoint keeps watch."""
        endpoint = self.kernel.gate(self._connection.provider.endpoint(client.settings))
        endpoint.join_backoff(self)
        try:
            while not self._nudged and trio.current_time() < self._until:
                next_look = self._until
                if endpoint.sentinel is self:
                    next_look = trio.current_time() + self._connection.settings.health.timeout
                    if await self._server_answers(client):
                        endpoint.server_is_back(self)
                        return
                await self._park(min(next_look, self._until))
                usable, self._signal = self._signal is Signal.USABLE, None
                if usable:
                    return
        finally:
            endpoint.leave_backoff(self)

    async def _server_answers(self, client: Client) -> bool:
        """One bounded ping. While it waits in server selection, drivers look every 0.5 s."""
        bound = min(self._connection.settings.health.timeout, self._until - trio.current_time())
        try:
            with trio.move_on_after(max(bound, 0.0)):
                await self._connection.provider.ping(client.native)
                return True
        except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
            failure_of(self.kernel, self._connection, error)
        return False

    def hasten(self) -> None:
        """End the long backoff within a second, at a moment of our own."""
        delay = self.kernel.random.uniform(0.0, 1.0)
        if trio.current_time() + delay < self._until:
            self._set_until(delay)
            self.wake()

    # -- what others ask ----------------------------------------------------------------------

    def hear(self, client: Client, signal: Signal) -> None:
        """A driver's event has arrived from its thread."""
        if client is not self._client:
            return  # of a client that was retired in the meantime
        state = self._connection.state
        if state is State.READY:
            if signal is Signal.LOST:
                self.lose(FailureReason.NETWORK, "the driver reports no usable server")
                self._interrupt()
            elif signal is Signal.SUSPECT:
                self._signal = signal
                self.wake()
        elif signal is Signal.USABLE:
            self._signal = signal
            self.wake()

    async def replace(self) -> None:
        """Swap the client of a ready connection; begin a new episode of any other.

        Runs in the task of the one who asks: the actor goes on pinging the old client meanwhile.
        """
        connection = self._connection
        if connection.state is not State.READY:
            self._fresh = True
            self._nudge()
            return
        self._install(await self._built_beside())

    async def _built_beside(self) -> Client:
        """A second client, brought up while the first one serves."""
        connection, kernel = self._connection, self.kernel
        fresh: Client | None = None
        try:
            settings = connection.settings.provider
            if references(settings):
                settings = await self._resolved(settings)
            fresh = Client(self, settings)
            await fresh.bring_up(connection, kernel)
        except BaseException as error:
            if fresh is not None:
                kernel.retire(connection, fresh)
            if not isinstance(error, Exception):
                raise
            text = kernel.describe(connection.provider, error)
            raise ConnectionNotReady(
                f"connection {connection.name!r} was not restarted, the old client stays: {text}",
                connection.status,
            ) from (error.__cause__ or error)
        return fresh

    def _install(self, fresh: Client) -> None:
        connection, old = self._connection, self._client
        if connection._actor is not self:  # stopped or crashed while the new client came up
            self.kernel.retire(connection, fresh)
            raise connection.not_ready("was stopped while it was restarted")
        self._client = fresh
        if connection.state is State.READY:
            fresh.counted = True
            self._proof = trio.current_time()
            connection._generation += 1
            connection._serve(fresh.database)
            connection._refresh()
            self._interrupt()
        else:
            self._nudge()  # lost meanwhile: the episode goes on with the new client
        if old is not None:
            self.kernel.retire(connection, old)

    def run_late_hooks(self) -> None:
        """Run what was registered on a ready connection; until then nobody is handed it."""
        connection, client = self._connection, self._client
        assert client is not None
        if not connection.hooks_pending:
            connection.hooks_pending = True
            connection._serve(None)
            self.kernel.spawn(self._late_hooks, client)

    async def _late_hooks(self, client: Client) -> None:
        connection = self._connection
        failure: AttemptFailed | None = None
        bug: BaseException | None = None
        try:
            await client.run_hooks(connection, self.kernel)
        except AttemptFailed as exc:
            failure = exc
        except Exception as exc:  # noqa: BLE001 - a bug in the hook: the actor raises it
            bug = exc
        finally:
            connection.hooks_pending = False
        if connection._actor is not self or self._client is not client:
            return
        if bug is not None:
            self._injected = bug
            self._interrupt()
        elif connection.state is State.READY:
            if failure is not None:
                self.lose(failure.reason, failure.text, failure.__cause__)
                self._interrupt()
            else:
                connection._serve(client.database)
                connection._wake()

    # -- waiting ------------------------------------------------------------------------------

    async def _park(self, when: float) -> None:
        """Wait until `when` (trio's clock), a signal, or a nudge; raise what was injected."""
        if not (self._signal or self._nudged or self._injected):
            self.kernel.timers.set(self, when, trio.current_time())
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self._raise_injected()

    def _raise_injected(self) -> None:
        if self._injected is not None:
            error, self._injected = self._injected, None
            raise error

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """End the present wait, if there is one."""
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _nudge(self) -> None:
        self._nudged = True
        self.wake()

    def _interrupt(self) -> None:
        """Make `_keep` look again, whether it waits or pings."""
        if self._parked is not None:
            self.wake()
        elif self._bound is not None:
            self._bound.cancel()

    async def _close_bounded(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await self.kernel.close(self._connection, client)
