"""How long a command waits for a MongoDB server that is not there: while one may still answer."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from .mongo_commands import SELECTION_STEP, SHARE, bounded, raise_with_causes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .mongo_commands import Driver

_UNTIL_NEWS: Final = 0.00001
"""How long a first look may take, in seconds: with luck PyMongo begins to wait, and it is over when
that ends with the first news. Each further look has twice as long, so that slow machines get there,
too."""

_LEAST: Final = 0.25
"""The part of its time that a command has at least when a server was found in the last moment."""

_VERDICT: Final = re.compile(r"CERTIFICATE|ALERT|WRONG_VERSION", re.IGNORECASE)
"""What a failed handshake says if one side refuses the other, rather than being gone."""


class Patience:
    """How long one command may take, and how long it waits for a server, if none is there.

    PyMongo's own waiting goes on until its time is up, though the first heartbeat has told what is
    wrong, 10 ms after the client was made. So while it knows no server, the command is not sent;
    somebody spends one look after the other, and that ends as soon as every server has failed.

    Args:
        driver: the client.
        seconds: the command's time, of which it takes `SHARE`.

    Attributes:
        given_up: nobody waits for the command any more; may be set from any thread.
    """

    def __init__(self, driver: Driver, seconds: float) -> None:
        self.given_up = False
        self._driver = driver
        self._seconds = seconds * SHARE
        self._began = time.monotonic()
        self._until_news = _UNTIL_NEWS

    def looks(self) -> Iterator[AbstractContextManager[None]]:
        """What to wait in, by `is_primary` of the driver, before the command is sent.

        It is the one thing that selects a server and sends nothing. What it would select does not
        matter, as long as there is nothing: where a server answers that may not be read from (an
        election), the driver's own waiting is right, and says what is missing.

        Raises:
            ServerSelectionTimeoutError: in the `with` statement, whose last look it was: each
                server has failed since the first, or the time is up.
        """
        while not (self.given_up or self._driver.topology_description.has_known_servers):
            yield self._look()

    @contextmanager
    def _look(self) -> Iterator[None]:
        import pymongo  # noqa: PLC0415 - the driver is optional
        from pymongo.errors import ServerSelectionTimeoutError  # noqa: PLC0415

        bound, self._until_news = self._until_news, 2 * self._until_news
        try:
            with pymongo.timeout(bound):
                yield
        except ServerSelectionTimeoutError as error:
            # No time for another one: the runtime would cut it off, and call it a timeout.
            if self._left() <= min(SELECTION_STEP, self._seconds / 2) or self._all_failed():
                raise_with_causes(error, self._driver)

    def _all_failed(self) -> bool:
        """Whether every server has failed since we began: what was before may be over.

        One that is not primary any more has answered, and its next heartbeat tells what it is. One
        that hung up amid a handshake may just be starting, or stand behind a proxy while it does;
        taken for a fault of the certificates, that would end the episode.
        """
        servers = self._driver.topology_description.server_descriptions().values()
        return bool(servers) and all(
            server.error is not None
            and server.last_update_time >= self._began
            and not _may_pass(server.error)
            for server in servers
        )

    def _left(self) -> float:
        return self._began + self._seconds - time.monotonic()

    def bounded(self) -> AbstractContextManager[None]:
        """Give the driver's command the time that is left; errors as those of `bounded`."""
        return bounded(self._driver, max(self._left(), self._seconds * _LEAST) / SHARE)


def _may_pass(error: Any) -> bool:
    from pymongo.errors import NotPrimaryError  # noqa: PLC0415 - the driver is optional

    text = str(error)
    return isinstance(error, NotPrimaryError) or (
        "SSL handshake failed" in text and _VERDICT.search(text) is None
    )
