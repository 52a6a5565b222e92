"""One native client: how it is brought up, and what a failure on the way means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio

from ..errors import FailureReason, MooringsError, SecretUnavailable, SettingsError
from ..providers.contract import DocumentsDatabaseBase, Signal
from .hosts import current_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from .actor import Actor
    from .connection import Connection, Hook
    from .kernel import Kernel

    Limit = Callable[[float], object]


class AttemptFailed(MooringsError):
    """One attempt failed for a reason of the world's; `__cause__` is the driver's error.

    Attributes:
        reason: what the provider takes it for.
        text: one line for people, without credentials.
    """

    def __init__(self, reason: FailureReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


def failure_of(kernel: Kernel, connection: Connection, error: Exception) -> AttemptFailed:
    """What `error` means for `connection`.

    Raises:
        Exception: `error` itself, when the provider does not know it: a bug, not an outage.
    """
    match error:
        case AttemptFailed():
            return error
        case SecretUnavailable():
            reason: FailureReason | None = FailureReason.SECRET
        case SettingsError():
            reason = FailureReason.CONFIG
        case _:
            reason = connection.provider.classify(error)
    if reason is None:
        raise error
    failure = AttemptFailed(reason, kernel.describe(connection.provider, error))
    failure.__cause__ = error
    return failure


def timed_out(what: str, seconds: float) -> AttemptFailed:
    """The failure of a call that was cut off by our own bound."""
    return AttemptFailed(FailureReason.TIMEOUT, f"{what}: no answer within {seconds:g} s")


class Client:
    """A native client and how far it has come. It is the `notify` that its provider is handed."""

    __slots__ = (
        "_hook_bug",
        "_hooking",
        "actor",
        "counted",
        "database",
        "hooks_run",
        "native",
        "provider",
        "refused",
        "resolved_at",
        "settings",
        "step",
    )

    def __init__(self, actor: Actor, settings: BaseModel) -> None:
        self.actor: Actor | None = actor  # None once retired: nobody listens any more
        self.provider = actor.connection.provider  # whose it stays, whatever takes over later
        self.settings = settings
        self.resolved_at = actor.kernel.now()
        self.native: Any = None
        self.database: Any = None
        self.hooks_run = 0
        self._hooking: trio.Lock | None = None
        self._hook_bug: Exception | None = None  # nobody runs hooks on this client again
        self.step = "open"  # what is done, or was done last; for messages
        self.counted = False  # whether it has its generation
        self.refused = False  # its probes are, and that has been told

    def __call__(self, signal: Signal = Signal.SUSPECT, /) -> None:
        """`notify`: from any thread, never blocks, never raises."""
        actor = self.actor
        if actor is not None:
            actor.kernel.call_soon(actor.hear, self, signal)

    def may_be_outdated(self) -> bool:
        """Whether its provider can tell, at the cost of a call."""
        return type(self.provider).is_current is not DocumentsDatabaseBase.is_current

    async def bring_up(self, connection: Connection, kernel: Kernel, limit: Limit) -> None:
        """Open it if need be, ping, verify, and run the hooks that have not succeeded on it yet.

        Args:
            connection: whose client it is.
            kernel: the shared parts.
            limit: called with a number of seconds before each call to the provider, and with
                `math.inf` where no bound of ours applies; cancels us when they are over.

        Raises:
            AttemptFailed: the provider knows why, or a hook took too long.
            Exception: anything else is a bug of the provider's or a hook's.

        Cancellation leaves a client that only needs to be closed.
        """
        provider, bound = connection.provider, connection.settings.health.timeout
        visit = kernel.host.visit
        gate = kernel.gate(provider.endpoint(self.settings))
        if not gate.enter_nowait():
            limit(math.inf)
            await gate.enter()
        try:
            if self.native is None:
                self.step = "open"
                limit(bound)
                self.native = await visit(provider.open, self.settings, self)
                self.database = provider.database(self.native)
            self.step = "ping"
            limit(bound)
            await visit(provider.ping, self.native)
            self.step = "verify"
            limit(bound)
            await visit(provider.verify, self.native)
        except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
            failure = failure_of(kernel, connection, error)
            raise failure from failure.__cause__
        finally:
            gate.leave()
        if connection.hooks:
            limit(math.inf)
            await self.run_hooks(connection, kernel)

    async def run_hooks(self, connection: Connection, kernel: Kernel) -> None:
        """Run the hooks that have not succeeded on this client yet; errors as `bring_up`."""
        if self._hooking is None:
            self._hooking = trio.Lock()
        # A late hook may still run when the connection is lost and comes back.
        async with self._hooking:
            if self._hook_bug is not None:
                raise self._hook_bug  # the one before us crashes the actor: not once more
            while self.hooks_run < len(connection.hooks):
                await self._run_hook(connection, kernel, connection.hooks[self.hooks_run])
                self.hooks_run += 1

    async def _run_hook(self, connection: Connection, kernel: Kernel, hook: Hook) -> None:
        with trio.move_on_after(kernel.hook_timeout) as scope:
            try:
                await kernel.host.visit(self._hooked, connection, kernel, hook)
            except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
                try:
                    failure = failure_of(kernel, connection, error)
                except Exception as bug:
                    self._hook_bug = bug
                    raise
                raise failure from failure.__cause__
        if scope.cancelled_caught:
            name = getattr(hook, "__qualname__", repr(hook))
            raise timed_out(f"hook {name}", kernel.hook_timeout)

    async def _hooked(self, connection: Connection, kernel: Kernel, hook: Hook) -> None:
        """The hook, in the host's world; its task is known, so that it cannot wait for itself."""
        task = current_task()
        kernel.hooking[task] = connection
        try:
            await hook(self.database)
        finally:
            del kernel.hooking[task]

    async def close(self, kernel: Kernel, deadline: float) -> bool:
        """Close it until `deadline` (trio's clock), shielded; False if that was too short.

        Raises:
            Exception: what the provider raised while closing; the client is given up all the same.
        """
        with trio.CancelScope(shield=True, deadline=deadline):
            return await self.close_unbounded(kernel)
        return False

    async def close_unbounded(self, kernel: Kernel) -> bool:
        """Close it, in a scope that bounds us; errors as `close`.

        Returns:
            False if the provider had to give something up that was still under way.
        """
        self.actor = None
        native, self.native = self.native, None
        if native is not None:
            try:
                await kernel.host.visit(self.provider.close, native)
            except TimeoutError:
                return False
        return True
