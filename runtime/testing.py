"""For tests of your own programs: real connections in memory, with faults to order.

Switch the plugin on in a `conftest.py`:

    pytest_plugins = ["moorings.runtime.testing"]

Then a test has a manager with one ready connection, `db`, or with what its marker names:

    async def test_orders_wait_for_the_database(moorings_connections):
        faults = moorings_connections["db"].provider.faults
        faults.refuse()
        ...
        faults.heal()

    @pytest.mark.moorings("orders", "audit", retry={"attempts": 1})
    async def test_two(moorings_connections): ...

The fixture works with pytest-trio, with anyio's plugin and with pytest-asyncio in its auto mode.
In pytest-asyncio's strict mode fixtures are its own: make one of `local_connections`.

    @pytest_asyncio.fixture
    async def connections():
        async with local_connections("db") as manager:
            yield manager
"""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from prometheus_client import CollectorRegistry

from .opening import open_connections

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .manager import ConnectionManager

IMPATIENT: Final[dict[str, dict[str, Any]]] = {
    "retry": {"initial": 0.01, "max": 0.05, "attempts": 3},
    "health": {"interval": 0.05, "timeout": 0.5, "failures": 1},
    "supervision": {"backoff_initial": 0.05, "backoff_max": 0.1, "shutdown": 1.0},
}
"""Settings with which a fault is seen, and its end, within a tenth of a second."""

_numbers = itertools.count(1)


@asynccontextmanager
async def local_connections(
    *names: str, runtime: dict[str, Any] | None = None, **tables: dict[str, Any]
) -> AsyncGenerator[ConnectionManager, None]:
    """Connections in memory, all ready, each with a server, data and faults of its own.

    Args:
        names: what they are called, the first is the default one; without any: `db`.
        runtime: the settings' `runtime` table.
        tables: tables of each connection's settings (`retry`, `health`, `supervision`,
            `provider`), in place of those of `IMPATIENT`.

    Raises:
        SettingsError: a table is wrong.

    Cancellation closes them, as leaving the block does. Any number may be open at a time: each
    has a metrics registry and a runtime name of its own.
    """
    tables = {"provider": {"database_name": "test"}, **IMPATIENT, **tables}
    documents = {name: {"backend": "local", **tables} for name in names or ("db",)}
    settings = {
        "default": {
            "database": {
                "documents": documents,
                "default_document_connection": next(iter(documents)),
            },
            "runtime": {"name": f"test_{next(_numbers)}", **(runtime or {})},
        }
    }
    async with open_connections(settings, metrics=CollectorRegistry()) as manager:
        await manager.wait_ready(*documents)
        yield manager


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "moorings(*names, **tables): what `moorings_connections` opens in memory"
    )


@pytest.fixture
async def moorings_connections(
    request: pytest.FixtureRequest,
) -> AsyncGenerator[ConnectionManager, None]:
    """A manager whose connections are in memory and ready; `@pytest.mark.moorings` names them."""
    marker = request.node.get_closest_marker("moorings")
    names, tables = (marker.args, marker.kwargs) if marker is not None else ((), {})
    async with local_connections(*names, **tables) as manager:
        yield manager
