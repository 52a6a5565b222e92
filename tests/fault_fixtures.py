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
def faulty_sets(keeper: Keeper) -> Iterator[Callable[[], Rig]]:
    """Gives a replica set behind proxies, to be had from `rigs`.

    Another one, if the last has not recovered from what a test did to it: the tests after that
    one are not to fail for it.
    """
    with contextlib.ExitStack() as stack:
        made: list[Rig] = []

        def present() -> Rig:
            if not made or not _has_settled(keeper, made[-1]):
                made.append(stack.enter_context(set_behind_proxies(keeper)))
            return made[-1]

        yield present


def _has_settled(keeper: Keeper, rig: Rig) -> bool:
    try:
        keeper.call(rig.settled)
    except pytest.fail.Exception as failure:
        print(f"{failure}: the next tests get another one")
        return False
    return True


@pytest.fixture
def rigs(keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Where faults of a place happen; whole again afterwards, whatever became of the test."""
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(proxies())

        def rig(place: Place) -> Rig:
            match place:
                case Place.SET:
                    found: Rig = request.getfixturevalue("faulty_sets")()
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
    if place is Place.SET:
        request.getfixturevalue("faulty_sets")()
    else:
        request.getfixturevalue("faulty_server")
