"""What a probe's own client is made with, and the probe of the driver that blocks.

A client of its own: the driver throws the whole pool away in which one new connection was refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .mongo_base import made
from .mongo_commands import LIST_NOTHING, bounded, close_bounded

if TYPE_CHECKING:
    from .mongo_settings import DriverSettings

_SMALL: Final[dict[str, Any]] = {
    "maxPoolSize": 1,
    "minPoolSize": 0,
    # Neither a streaming connection nor one that measures round trips: it is gone in a moment.
    "serverMonitoringMode": "poll",
}

CLOSE_SECONDS: Final = 0.2
"""How long the end of a probe may take, in seconds: its one session is sent home."""


def probe_arguments(settings: DriverSettings, name: str) -> tuple[str, dict[str, Any]]:
    """What to make the client of one probe with."""
    url, options = settings.driver_arguments(appname=f"moorings/{name}/probe")
    small = {key.lower() for key in _SMALL}
    kept = {key: value for key, value in options.items() if key.lower() not in small}
    return url, kept | _SMALL


def probe_blocking(settings: DriverSettings, name: str, seconds: float) -> None:
    """Connect, log in, ask what needs a login, and close. In a thread.

    Raises:
        PyMongoError: what the driver raises.
    """
    from pymongo import MongoClient  # noqa: PLC0415 - the driver is optional

    url, options = probe_arguments(settings, name)
    driver: MongoClient[dict[str, Any]] = made(lambda: MongoClient(url, **options))
    try:
        with bounded(driver, seconds):
            driver[settings.database_name].command(
                LIST_NOTHING, read_preference=driver.read_preference
            )
    finally:
        close_bounded(driver, CLOSE_SECONDS)
