"""Connecting: attempts until one succeeds, or until the retry settings are used up.

A first success costs no retry machinery: tenacity is entered with the first failure in hand.
"""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

import math
import time
from time import perf_counter
from typing import TYPE_CHECKING, Any

import tenacity
import trio

from ..providers.references import references
from .backoff import decorrelated
from .client import AttemptFailed, Client, failure_of, timed_out
from .lookout import wait_for_server
from .probing import forget_refusal, schedule_probe
from .state import Event

if TYPE_CHECKING:
    from .actor import Actor
    from .client import Limit


async def connect(actor: Actor) -> None:
    """One episode; leaves the connection `ready` or `failed`, unless it is interrupted."""
    first, actor.cut_off = actor.cut_off, None
    actor.delay = 0.0
    try:
        if first is None:
            await _attempt(actor, actor.limit)
            return
    except AttemptFailed as failure:
        first = failure
    last = await _retry(actor, first)
    if last is not None:
        actor.connection._step(
            Event.GAVE_UP, reason=last.reason, error=last.text, cause=last.__cause__
        )


async def _retry(actor: Actor, first: AttemptFailed) -> AttemptFailed | None:
    """Try again after a first failure; the failure to give up with, or None on success."""
    pending: list[AttemptFailed] = [first]

    async def attempt() -> None:
        # tenacity's first call replays the failure that brought us here.
        if pending:
            raise pending.pop()
        actor.connection._note(attempt=actor.connection._attempt + 1, next_attempt_at=None)
        with trio.CancelScope() as scope:
            await _attempt(actor, deadline_of(scope))
        if scope.cancelled_caught:
            step = actor.client.step if actor.client else "open"
            failure = timed_out(step, actor.connection.settings.health.timeout)
            note_failure(actor, failure)
            raise failure

    if actor.retrying is None:
        actor.retrying = _retrying(actor)
    try:
        await actor.retrying(attempt)
    except AttemptFailed as failure:
        return failure
    return None


def _retrying(actor: Actor) -> tenacity.AsyncRetrying:
    """One actor's retry policy. Its state is tenacity's: not to be shared between actors."""
    settings = actor.connection.settings.retry

    def wait(_: tenacity.RetryCallState) -> float:
        actor.delay = decorrelated(actor.delay, settings.initial, settings.max, actor.kernel.random)
        return actor.delay

    async def nap(seconds: float) -> None:
        # Not a plain sleep: a usable server or a command ends it.
        await wait_for_server(actor, seconds)
        if actor.stopping:  # tenacity knows no stop: it would try again
            actor.wake()
            await trio.lowlevel.checkpoint()
        actor.signal, actor.nudged = None, False

    def may_help(error: BaseException) -> bool:
        # Whitelisted by type: tenacity catches BaseException, and trio.Cancelled has to pass.
        return isinstance(error, AttemptFailed) and not error.reason.needs_human

    return tenacity.AsyncRetrying(
        sleep=nap,
        # By attempts only: tenacity's delay limits read the wall clock.
        stop=tenacity.stop_after_attempt(settings.attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(may_help),
        reraise=True,
    )


async def _attempt(actor: Actor, limit: Limit) -> None:
    """Open (if need be), ping, verify, run the hooks; `ready`, or AttemptFailed."""
    connection = actor.connection
    began = perf_counter()
    try:
        client = await _brought_up(actor, limit)
    except AttemptFailed as failure:
        actor.calling, actor.due = None, math.inf  # the timers' part ends with the call
        note_failure(actor, failure)
        raise
    connection.measurements.connects += 1
    connection.measurements.connect_seconds.observe(perf_counter() - began)
    _establish(actor, client)


async def _brought_up(actor: Actor, limit: Limit) -> Client:
    """The present client, or a new one where one is due, after it has proved itself."""
    connection = actor.connection
    while True:
        settings = connection.settings.provider
        if references(settings):
            limit(math.inf)
            actor.unresolved = True
            settings = await resolved(actor, settings)
            actor.unresolved = False
        client = actor.client
        current = client is None or await _is_current(actor, client, limit)
        if client is not None and (actor.fresh or client.settings != settings or not current):
            actor.kernel.closer.retire(connection, client)
            client = None
        actor.fresh = False
        if client is None:
            client = actor.client = Client(actor, settings)
        await client.bring_up(connection, actor.kernel, limit)
        # Nobody has asked for a restart in the meantime, nor has one brought its own client, in
        # the very instant of our last answer.
        if not actor.fresh and actor.client is client:
            return client


async def _is_current(actor: Actor, client: Client, limit: Limit) -> bool:
    """Whether a client that is kept is made of what a new one would be made of."""
    connection, kernel = actor.connection, actor.kernel
    if client.native is None or not client.may_be_outdated():
        return True
    limit(connection.settings.health.timeout)
    try:
        return await kernel.host.visit(client.provider.is_current, client.native)
    except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
        failure = failure_of(kernel, connection, error)
        raise failure from failure.__cause__


def _establish(actor: Actor, client: Client) -> None:
    connection = actor.connection
    actor.calling = actor.signal = None
    actor.nudged = actor.rested = False
    connection.hooks_pending = None  # whoever still runs late hooks: they have run on this client
    actor.misses = 0
    actor.backoff = 0.0
    actor.proof = actor.kernel.now()
    schedule_probe(actor)
    measurements = connection.measurements
    measurements.retry_delay = 0.0
    measurements.last_ping_at = time.time()  # an attempt pings, too
    if not client.counted:
        client.counted = True
        forget_refusal(actor)
        connection._generation += 1
    connection._step(Event.ESTABLISHED, database=client.database)


def note_failure(actor: Actor, failure: AttemptFailed) -> None:
    """Count and show an attempt that failed."""
    actor.connection.measurements.connect_failures += 1
    actor.connection._note(reason=failure.reason, error=failure.text)
    actor.kernel.announcer.attempt_failed(actor.connection, failure)


async def resolved(actor: Actor, settings: Any) -> Any:
    """The settings with their references resolved anew: a mended secret heals by itself.

    Raises:
        AttemptFailed: a reference leads nowhere, or what it leads to cannot be used.
    """
    try:
        return await actor.kernel.secrets.resolve(settings)
    except Exception as error:  # noqa: BLE001 - re-raised unless it has a reason
        failure = failure_of(actor.kernel, actor.connection, error)
        raise failure from failure.__cause__


def deadline_of(scope: trio.CancelScope) -> Limit:
    """Bound an attempt by a scope of its own."""

    def limit(seconds: float) -> None:
        scope.deadline = trio.current_time() + seconds

    return limit
