"""Rotation: while connections live, their references are looked at, and new secrets are gone by.

One task per kernel looks at the backend's own pace, and at once when a driver finds its new
connections refused. A ready connection whose secrets are others by now gets a second client beside
the first (`replacement`): its state stays `ready`. One that has failed is nudged out of its long
backoff. Whatever goes wrong here changes no state: what is in use goes on being used.
"""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..errors import ConnectionNotReady, SecretUnavailable, SettingsError
from ..providers.references import references
from .backoff import decorrelated, jittered
from .replacement import replace
from .state import State

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ..providers.references import SecretReference
    from .actor import Actor
    from .connection import Connection
    from .kernel import Kernel
    from .secrets import Found

    Given = dict[str, SecretReference]  # by the settings' field, as all of these are
    Values = dict[str, SecretStr]

logger = logging.getLogger("moorings")

JITTER = 0.1
"""The share by which looks differ from the backend's `refresh`: processes do not look together."""
AT_A_TIME = 100
"""So many connections are compared before others may run."""
APART = 1.0
"""However often a driver finds its connections refused, looks are so many seconds apart at least,
twice as many after each that found nothing new."""
LONGEST_APART = 30.0
BACKOFF_INITIAL, BACKOFF_MAX = 1.0, 30.0
"""Between two attempts to go by the same new secrets, in seconds."""


@dataclass
class Pause:
    """After secrets that no client came up with.

    Attributes:
        delay: how long it is, in seconds.
        until: when the next attempt may be made, on trio's clock.
        values: the secrets; others are tried at once.
    """

    delay: float
    until: float
    values: Values


class Rotation:
    """The watch over one kernel's references. Belongs to the trio thread."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._asked = trio.Event()
        self._hurried = False  # asked for a look, and not only to see what there is to watch
        self._failing: frozenset[SecretReference] = frozenset()
        self._pauses: dict[Connection, Pause] = {}
        self._unusable: dict[Connection, Values] = {}  # what has been told already

    async def run(self) -> None:
        """Look, for ever; idle while no connection has references."""
        kernel = self._kernel
        looked, apart = kernel.now(), APART
        while True:
            due = looked + self._interval()
            with trio.move_on_at(due):
                await self._asked.wait()
            self._asked = trio.Event()
            if self._hurried:
                await trio.sleep_until(looked + apart)
            elif kernel.now() < due:
                continue  # other settings, and so another interval, perhaps
            hurried, self._hurried = self._hurried, False
            looked = kernel.now()
            news = await self._look()
            # Nothing new for whoever is refused: the backend is not asked for that every second.
            longest = max(APART, min(kernel.secrets.backend.refresh, LONGEST_APART))
            apart = min(2 * apart, longest) if hurried and not news else APART

    def review(self) -> None:
        """Other connections or another backend: see how often there is something to look at."""
        self._asked.set()

    def hurry(self) -> None:
        """Look now: a server has refused somebody's new connection."""
        self._hurried = True
        self._asked.set()

    def renew(self, connection: Connection) -> None:
        """Swap a ready connection's client: what it was made of has changed, though no secret."""
        if not self._paused(connection, {}):
            self._kernel.spawn(self._rotate, connection, {})

    async def has_newer(self, connection: Connection) -> bool:
        """Look for one connection's secrets now; whether there are others, which are tried then."""
        given = references(connection.settings.provider)
        if not given:
            return False
        asked = self._kernel.now()
        found = await self._kernel.secrets.find(frozenset(given.values()))
        return self._apply(connection, given, found, asked)

    # -- one look -----------------------------------------------------------------------------

    def _interval(self) -> float:
        kernel = self._kernel
        refresh = kernel.secrets.backend.refresh
        if refresh == math.inf or not self._watched():
            return math.inf
        return jittered(refresh, JITTER, kernel.random)

    def _watched(self) -> dict[Connection, Given]:
        """The connections with references."""
        return {
            connection: given
            for connection in self._kernel.connections.values()
            if (given := references(connection.settings.provider))
        }

    async def _look(self) -> bool:
        """Look for all; whether there was news for any."""
        watched = self._watched()
        wanted = frozenset(reference for given in watched.values() for reference in given.values())
        if not wanted:
            return False
        asked = self._kernel.now()
        found = await self._kernel.secrets.find_all(wanted)
        self._tell_failing(watched, found)
        for told in (self._pauses, self._unusable):
            for connection in told.keys() - watched.keys():
                del told[connection]
        news = False
        for number, (connection, given) in enumerate(watched.items(), 1):
            news |= self._apply(connection, given, found, asked)
            if number % AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
        return news

    def _tell_failing(self, watched: dict[Connection, Given], found: Found) -> None:
        """One warning when a backend begins to fail those who are ready; the others say it."""
        used = {
            reference
            for connection, given in watched.items()
            if connection.state is State.READY
            for reference in given.values()
        }
        failing = {r: e for r, e in found.items() if isinstance(e, SecretUnavailable) and r in used}
        new = [error for reference, error in failing.items() if reference not in self._failing]
        if new:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            logger.warning("%s%s; connections keep what they have", new[0], more)
        elif self._failing and not failing:
            logger.info("secrets can be resolved again")
        self._failing = frozenset(failing)

    def _apply(self, connection: Connection, given: Given, found: Found, asked: float) -> bool:
        """Let one connection have what was found, if that is news for it; whether it is."""
        actor, values = connection._actor, {}
        for name, reference in given.items():
            value = found[reference]
            if isinstance(value, SecretUnavailable):
                return False
            values[name] = value
        if actor is None or not self._is_news(actor, given, values):
            self._pauses.pop(connection, None)
            return False
        if connection.state is State.FAILED:
            actor.nudge()
        elif actor.client is not None and actor.client.resolved_at > asked:
            pass  # it may know better: an answer may be old by the time that it comes
        elif connection.state is State.READY and not self._paused(connection, values):
            self._kernel.spawn(self._rotate, connection, values)
        return True

    def _is_news(self, actor: Actor, given: Given, values: Values) -> bool:
        """Whether the actor's client was made, or tried, with other secrets."""
        connection, client = actor.connection, actor.client
        if not actor.unresolved:
            if client is None:
                return False  # parked after a crash: it is not for secrets that it waits
            if all(getattr(client.settings, n, None) == value for n, value in values.items()):
                return False  # the usual case, for which nothing is validated
        settings = connection.settings.provider
        if references(settings) != given:
            return False  # a reload has come between: the next look knows
        try:
            found = {given[name]: value for name, value in values.items()}
            resolved = self._kernel.secrets.substituted(settings, found)
        except Exception as error:  # noqa: BLE001 - a model's own bug crashes episodes, not us
            self._tell_unusable(connection, values, error)
            return False
        return actor.unresolved or client is None or resolved != client.settings

    def _tell_unusable(self, connection: Connection, values: Values, error: Exception) -> None:
        """Say once of the same secrets that they are of no use; of a bug nothing but its name."""
        if connection.state is State.READY and self._unusable.get(connection) != values:
            why = error if isinstance(error, SettingsError) else type(error).__name__
            logger.warning("connection %r keeps its client: %s", connection.name, why)
        self._unusable[connection] = values

    # -- another client -----------------------------------------------------------------------

    def _paused(self, connection: Connection, values: Values) -> bool:
        pause = self._pauses.get(connection)
        return pause is not None and pause.values == values and self._kernel.now() < pause.until

    async def _rotate(self, connection: Connection, values: Values) -> None:
        """Swap a ready connection's client, unless a command is under way; commands go first."""
        # Whatever becomes of it, the next look finds out.
        await connection.turns.take_if_free(partial(self._replace, connection, values))

    async def _replace(self, connection: Connection, values: Values) -> None:
        actor = connection._actor
        if actor is None or connection.state is not State.READY or connection.gone:
            return
        try:
            await replace(actor, gives_way=True)
        except ConnectionNotReady as error:
            self._failed(connection, values, error)
        else:
            self._pauses.pop(connection, None)
            connection.measurements.rotations += 1
            logger.info(
                "connection %r goes by new secrets (generation %d)",
                connection.name,
                connection.generation,
            )

    def _failed(self, connection: Connection, values: Values, error: ConnectionNotReady) -> None:
        if connection.state is not State.READY or self._kernel.closing:
            return  # it was stopped, or lost, meanwhile: not the secrets' doing
        connection.measurements.rotation_failures += 1
        before = self._pauses.get(connection)
        again = before is not None and before.values == values
        delay = decorrelated(
            before.delay if before is not None and again else 0.0,
            BACKOFF_INITIAL,
            BACKOFF_MAX,
            self._kernel.random,
        )
        self._pauses[connection] = Pause(delay, self._kernel.now() + delay, values)
        # Once for the same secrets: they may be wrong for hours.
        logger.log(logging.DEBUG if again else logging.WARNING, "new secrets: %s", error)
