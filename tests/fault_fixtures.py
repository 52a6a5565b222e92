"""Fixtures that hand out servers, and a network before them, that fail on demand.

For tests of faults; see `faults/rig.py`. The servers are shared, and are whole again after each
test.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from faults.rig import Keeper, Rig, network, server_with_password, set_behind_proxies, standalone
from faults.vocabulary import Place
from proxy import proxies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mongod import Mongod
    from proxy import ProxyFactory

    Rigs = Callable[[Place], Rig]


@pytest.fixture
def proxy_factory() -> Iterator[ProxyFactory]:
    """Puts proxies before servers, for the length of a test; none may leave a socket open."""
    with proxies() as kept:
        yield kept.before


@pytest.fixture(scope="session")
def keeper() -> Iterator[Keeper]:
    """The thread by which all servers that fail live."""
    keeper = Keeper()
    yield keeper
    keeper.end()


@pytest.fixture(scope="session")
def faulty_server(keeper: Keeper) -> Iterator[Mongod]:
    """A server with a password, to be had from `rigs`."""
    with server_with_password(keeper) as running:
        yield running


@pytest.fixture(scope="session")
def faulty_set(keeper: Keeper) -> Iterator[Rig]:
    """A replica set behind proxies, to be had from `rigs`."""
    with set_behind_proxies(keeper) as rig:
        yield rig


@pytest.fixture
def rigs(keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Where faults of a place happen; whole again afterwards, whatever became of the test."""
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(proxies())

        def rig(place: Place) -> Rig:
            match place:
                case Place.SET:
                    found: Rig = request.getfixturevalue("faulty_set")
                case Place.NETWORK:
                    server = request.getfixturevalue("faulty_server")
                    found = network(keeper, kept.before(server.port))
                case Place.SERVER:
                    found = standalone(keeper, request.getfixturevalue("faulty_server"))
            stack.callback(keeper.call, found.heal)
            keeper.call(found.settled)
            return found

        yield rig


@pytest.fixture
def faulty(place: Place, request: pytest.FixtureRequest) -> None:
    """What `rigs` will need for the test's `place` is there: before anything is counted."""
    request.getfixturevalue("faulty_set" if place is Place.SET else "faulty_server")
