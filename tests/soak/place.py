"""The replica set of a soak, behind proxies, and what goes wrong with its members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mongod import ReplicaSet, start_members
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

if TYPE_CHECKING:
    from mongod import Mongod
    from proxy import Proxies, Proxy

ELECTION_MS: Final = 1000
DELAY: Final = 1.5
"""Seconds by which replies are late: more than a ping may take."""
RATE: Final = 2000.0
"""Bytes a second, where they are throttled."""
TIMEOUTS: Final = ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS")
BRIEFLY: Final = 2000
"""Milliseconds for what is asked of a member while others are down."""


class Place:
    """Three members that reach each other, and are reached, through proxies."""

    def __init__(self, running: list[Mongod], proxies: Proxies) -> None:
        self.members: ReplicaSet = start_members(running, 3)
        self.proxies: list[Proxy] = [proxies.before(one.port) for one in self.members.members]
        self.members.initiate(ELECTION_MS, [proxy.address for proxy in self.proxies])
        self._down: set[int] = set()

    @property
    def url(self) -> str:
        """Where clients reach it. What they do not use they give back soon, to be counted."""
        hosts = ",".join(proxy.address for proxy in self.proxies)
        return f"mongodb://{hosts}/?replicaSet={self.members.name}&w=majority&maxIdleTimeMS=3000"

    def strike(self, kind: str, number: int) -> bool:
        """Let `kind`, one of `plan.KINDS`, happen to a member; False where it cannot now."""
        if kind == "step-down":
            return self.step_down()
        server, proxy = self.members.members[number], self.proxies[number]
        match kind:
            case "kill" | "freeze":
                self._down.add(number)
                (server.kill if kind == "kill" else server.freeze)()
            case "refuse":
                proxy.refuse()
                proxy.cut()
            case "delay":
                proxy.delay(DELAY)
            case "throttle":
                proxy.throttle(RATE)
            case _:
                getattr(proxy, kind.replace("-", "_"))()
        return True

    def heal(self, number: int) -> None:
        """Undo whatever has happened to a member."""
        server = self.members.members[number]
        self.proxies[number].heal()
        if server.process is None or server.process.poll() is not None:
            server.kill()  # it may have ended by itself, of what it was told
            server.start()
        elif number in self._down:
            server.thaw()
        self._down.discard(number)

    def heal_all(self) -> None:
        """Undo everything, and wait until the set is one again."""
        for number in range(len(self.proxies)):
            self.heal(number)
        self.members.wait_settled()

    def step_down(self) -> bool:
        """Let the primary hand over; False without one, or without one to follow it."""
        for number, member in enumerate(self.members.members):
            if number in self._down:
                continue
            with member.client(**dict.fromkeys(TIMEOUTS, BRIEFLY)) as client:
                try:
                    if client.admin.command("hello").get("isWritablePrimary"):
                        client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=1)
                        return True
                except PyMongoError:
                    continue
        return False

    def documents(self) -> set[str]:
        """Those that a majority has."""
        with self.members.primary().client() as client:
            things = client.soak.get_collection("things", read_concern=ReadConcern("majority"))
            return {document["_id"] for document in things.find()}
