"""Where cells are tried: real servers, proxies before them, and the hand that makes them fail.

Everything that blocks is done by one thread for all: a server ends with the thread that started
it, and the loop that a cell runs in is not to be held up.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread
from mongod import servers, start_members, start_server
from proxy_process import remote_proxies
from secrecy import PASSWORD, USER

from .vocabulary import SET_ATTEMPTS, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mongod import Mongod, ReplicaSet
    from proxy import Proxy
    from proxy_process import RemoteProxy

T = TypeVar("T")

ELECTION_MS = 3000
"""Longer than a silent primary goes unseen: what comes first has to be certain."""
HEARTBEAT_TIMEOUT = 2
"""Seconds for which a candidate waits for what a silent primary says to that."""


class Keeper:
    """The one thread that starts, kills and freezes servers."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "keeper")

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the keeper's thread, and wait."""
        return self._threads.submit(function).result()

    async def run(self, function: Callable[[], T]) -> T:
        """The same, in a task of any loop."""
        return await anyio.to_thread.run_sync(self._threads.submit(function).result)

    def end(self) -> None:
        self._threads.shutdown()


@dataclass
class Rig:
    """One place to try cells at.

    Attributes:
        url: what the connection is told, without credentials.
        strikes: how each fault that is possible here begins, by its name.
        heal: ends any of them.
        credentials: further settings of the connection's provider.
        patience: tables of settings that differ from the usual.
        reached: blocks until a connection has come, where that can be told.
        settled: blocks until nothing is left of what has happened here before.
    """

    keeper: Keeper
    url: str
    strikes: dict[str, Callable[[], object]]
    heal: Callable[[], object]
    credentials: dict[str, Any] = field(default_factory=dict)
    patience: dict[str, Any] = field(default_factory=dict)
    reached: Callable[[], object] = lambda: None
    settled: Callable[[], object] = lambda: None


def network(keeper: Keeper, proxy: Proxy) -> Rig:
    """A server behind a proxy that fails."""

    def refuse() -> None:
        proxy.refuse()
        proxy.cut()

    return Rig(
        keeper,
        f"mongodb://{proxy.address}/?authSource=admin",
        {
            "refuse": refuse,
            "cut": proxy.cut,
            "blackhole": proxy.blackhole,
            "delay": lambda: proxy.delay(3 * TIMEOUT),
            "slow": lambda: proxy.delay(TIMEOUT / 10),
            "throttle": lambda: proxy.throttle(64.0),
            "half-open": proxy.half_open,
            "corrupt": proxy.corrupt,
            "corrupt bodies": lambda: proxy.corrupt(header=False),
        },
        proxy.heal,
        credentials={"username": USER, "password": PASSWORD},
        reached=lambda: proxy.wait_accepted(1),
    )


def standalone(keeper: Keeper, server: Mongod) -> Rig:
    """A server that fails itself."""

    def heal() -> None:
        if server.process is None:
            server.start()
        else:
            server.thaw()

    return Rig(
        keeper,
        f"{server.url}?authSource=admin",
        {"SIGKILL": server.kill, "SIGSTOP": server.freeze},
        heal,
        credentials={"username": USER, "password": PASSWORD},
    )


def replica_set(keeper: Keeper, members: ReplicaSet, before: list[RemoteProxy]) -> Rig:
    """Three members that reach each other, and are reached, through proxies."""
    hosts = ",".join(proxy.address for proxy in before)

    def step_down() -> None:
        with members.primary().client() as admin:
            # By force: a member that has handed over a moment ago is no candidate as yet.
            admin.admin.command("replSetStepDown", 3, secondaryCatchUpPeriodSecs=1, force=True)

    def isolate() -> None:
        before[members.members.index(members.primary())].blackhole()

    def part() -> None:
        for proxy in before:
            proxy.blackhole()

    def heal() -> None:
        for proxy in before:
            proxy.heal()
        for member in members.members:
            if member.process is None:
                member.start()

    return Rig(
        keeper,
        f"mongodb://{hosts}/?replicaSet={members.name}",
        {
            "step-down": step_down,
            "death of the primary": lambda: members.primary().kill(),
            "isolation of the primary": isolate,
            "partition": part,
        },
        heal,
        # An episode outlives an election, and so does a hook a handover.
        patience={"retry": {"attempts": SET_ATTEMPTS}},
        settled=members.wait_settled,
    )


@contextlib.contextmanager
def server_with_password(keeper: Keeper) -> Iterator[Mongod]:
    """A server that demands credentials, `USER` and `PASSWORD`."""
    with kept(keeper) as running:
        server = keeper.call(lambda: start_server(running, "--auth"))
        with server.client() as client:  # the localhost exception: the first user needs no login
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
        yield server


@contextlib.contextmanager
def set_behind_proxies(keeper: Keeper) -> Iterator[Rig]:
    """A replica set whose members know each other by their proxies' addresses."""
    with kept(keeper) as running:
        members = keeper.call(lambda: start_members(running, 3))
        # Not in this process, whose sockets are counted: members connect as they please.
        with remote_proxies([member.port for member in members.members]) as before:
            addresses = [proxy.address for proxy in before]
            members.initiate(ELECTION_MS, addresses, HEARTBEAT_TIMEOUT)
            yield replica_set(keeper, members, before)


@contextlib.contextmanager
def kept(keeper: Keeper) -> Iterator[list[Mongod]]:
    """As `servers`, but ended in the keeper's thread, which they were started in."""
    stack = contextlib.ExitStack()
    try:
        yield stack.enter_context(servers())
    finally:
        keeper.call(stack.close)
