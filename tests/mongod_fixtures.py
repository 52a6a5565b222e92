"""Fixtures that hand out real MongoDB servers; see `mongod.py`.

Session-scoped: `mongod` (one server), `mongod_auth` (with users), `replica_set` (three members).
Tests that kill or freeze ask `mongod_factory` or `replica_set_factory` for servers of their own.
`database_name` keeps tests on a shared server apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from mongod import (
    Mongod,
    MongodFactory,
    ReplicaSet,
    ReplicaSetFactory,
    Spares,
    servers,
    start_server,
    start_set,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mongod() -> Iterator[Mongod]:
    """A standalone server that all tests share. Do not kill or freeze it."""
    with servers() as running:
        yield start_server(running)


@pytest.fixture(scope="session")
def mongod_password() -> str:
    """The password of `mongod_auth`'s users: every character here has to be escaped in a URL."""
    return "p@ss/wörd:100%?#"


@pytest.fixture(scope="session")
def mongod_auth(mongod_password: str) -> Iterator[Mongod]:
    """A standalone server that demands credentials. Do not kill or freeze it.

    Users, all in `admin` and all with `mongod_password`: `root`, who may do everything; `reader`,
    who may only find in `app.things`; `nobody`, who may do nothing.
    """
    with servers() as running:
        server = start_server(running, "--auth")
        server.username, server.password = "root", mongod_password
        with server.client() as client:  # the localhost exception: the first user needs no login
            client.admin.command("createUser", "root", pwd=mongod_password, roles=["root"])
        with server.client(username="root", password=mongod_password) as client:
            privilege = {"resource": {"db": "app", "collection": "things"}, "actions": ["find"]}
            client.admin.command("createRole", "reads", privileges=[privilege], roles=[])
            client.admin.command("createUser", "reader", pwd=mongod_password, roles=["reads"])
            client.admin.command("createUser", "nobody", pwd=mongod_password, roles=[])
        yield server


@pytest.fixture(scope="session")
def replica_set() -> Iterator[ReplicaSet]:
    """A set of three members that all tests share. Do not kill or freeze its members."""
    with servers() as running:
        yield start_set(running, 3, 1000)


@pytest.fixture(scope="session")
def spare_servers() -> Iterator[Spares]:
    """Where `mongod_factory` takes servers from that need no arguments."""
    with servers() as running:
        yield Spares(running)


@pytest.fixture
def mongod_factory(spare_servers: Spares) -> Iterator[MongodFactory]:
    """Starts servers of the test's own, to kill, freeze and restart at will."""
    with servers() as running:

        def start(*arguments: str) -> Mongod:
            if arguments:
                return start_server(running, *arguments)
            return spare_servers.hand_over(running)

        yield start


@pytest.fixture
def replica_set_factory() -> Iterator[ReplicaSetFactory]:
    """Starts replica sets of the test's own, to kill, freeze and restart at will."""
    with servers() as running:

        def start(members: int = 3, *, election_timeout_ms: int = 1000) -> ReplicaSet:
            return start_set(running, members, election_timeout_ms)

        yield start


@pytest.fixture
def database_name() -> str:
    """A name that no other test uses."""
    return f"test_{uuid4().hex[:12]}"
