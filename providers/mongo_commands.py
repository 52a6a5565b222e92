"""The commands by which a MongoDB server is asked whether it may be used, and their bounds.

The same for every driver: PyMongo's two clients share the shape of what is used here.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo import AsyncMongoClient, MongoClient
    from pymongo.errors import ServerSelectionTimeoutError

    Driver = MongoClient[dict[str, Any]] | AsyncMongoClient[dict[str, Any]]

SHARE: Final = 0.9
"""The part of its time that a command takes for itself. The rest is for its error to arrive: the
driver's knows the cause, the runtime's cancellation does not."""

DRAIN_SHARE: Final = 0.7
"""The part of `close_timeout` that calls under way have to finish; what is left of `SHARE` is for
sending pooled sessions home, which takes its time when the server is gone."""

SELECTION_STEP: Final = 0.5
"""While it waits for a server, in seconds, PyMongo looks at its own time limit only this often, or
when it has learned something of a server."""

PING: Final[dict[str, Any]] = {"ping": 1}

LIST_NOTHING: Final[dict[str, Any]] = {
    "listCollections": 1,
    "nameOnly": True,
    "authorizedCollections": True,
    # No name is empty: the permission is checked, and no list has to travel.
    "filter": {"name": ""},
}


@contextmanager
def bounded(driver: Driver, seconds: float) -> Iterator[None]:
    """Give the driver's commands within `SHARE` of `seconds`, and their errors their causes.

    Raises:
        PyMongoError: the driver's own. When no server could be selected, `__cause__` is a group of
            what each server's own connection met: the error itself has nothing but their text.
    """
    import pymongo  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import ServerSelectionTimeoutError  # noqa: PLC0415

    seconds *= SHARE
    try:
        if not driver.topology_description.has_readable_server(driver.read_preference):
            # Or the runtime would cut it off first, and call a refused connection a timeout.
            seconds = max(seconds - SELECTION_STEP, seconds / 2)
        with pymongo.timeout(seconds):
            yield
    except ServerSelectionTimeoutError as error:
        raise_with_causes(error, driver)


def raise_with_causes(error: ServerSelectionTimeoutError, driver: Driver) -> NoReturn:
    """Raise `error`; its cause is what each server's own connection met."""
    said = [
        server.error
        for server in driver.topology_description.server_descriptions().values()
        if server.error is not None
    ]
    if not said:
        raise error
    raise error from ExceptionGroup("what the servers' own connections met", said)


def close_bounded(driver: MongoClient[dict[str, Any]], seconds: float) -> None:
    """Close the driver that blocks, whatever has become of its server."""
    import pymongo  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    # The server may be gone, or its name never have been resolved. The sockets are closed anyway.
    with suppress(PyMongoError), pymongo.timeout(seconds):
        driver.close()
