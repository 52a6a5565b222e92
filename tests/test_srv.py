"""`mongodb+srv://` with a name server of our own: an unknown name is an outage, and it heals."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import dns.asyncresolver
import dns.resolver
import pytest
from dnslib import QTYPE, RCODE, RR, SRV
from dnslib.server import DNSServer
from mongod import HOST
from prometheus_client import CollectorRegistry
from pymongo_sockets import UNCLOSED_BY_PYMONGO
from stacks import STACKS

from moorings import State, open_connections
from moorings.errors import FailureReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dnslib import DNSRecord
    from mongod import Mongod
    from stacks import Stack

pytestmark = [
    pytest.mark.mongod,
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]

SOON = 20.0
CLUSTER, MEMBER = "cluster.example.test", "member.example.test"


class Zone:
    """Answers for the cluster once it has a port, and that nothing exists for all else."""

    def __init__(self) -> None:
        self.port: int | None = None

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        """What dnslib's server calls, in its thread."""
        del handler
        reply = request.reply()
        asked = (str(request.q.qname), QTYPE[request.q.qtype])
        if self.port is not None and asked == (f"_mongodb._tcp.{CLUSTER}.", "SRV"):
            reply.add_answer(RR(asked[0], QTYPE.SRV, rdata=SRV(port=self.port, target=MEMBER)))
        else:
            reply.header.rcode = RCODE.NXDOMAIN
        return reply


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    """A name server on loopback, which the driver asks; the member's name is loopback's."""
    zone = Zone()
    server = DNSServer(zone, address=HOST, port=0)
    server.start_thread()
    port = server.server.server_address[1]
    for module in (dns.resolver, dns.asyncresolver):
        resolver = module.Resolver(configure=False)
        resolver.nameservers, resolver.port = [HOST], port
        monkeypatch.setattr(module, "default_resolver", resolver)
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **more: Any) -> Any:
        return real(HOST if host == MEMBER else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield zone
    finally:
        server.stop()
        server.server.server_close()
        server.thread.join()


@pytest.mark.parametrize("stack", STACKS)
def test_an_unknown_cluster_is_dns_and_is_found_once_it_is_known(
    stack: Stack, zone: Zone, mongod: Mongod
) -> None:
    tables = {
        "backend": stack.backend,
        "provider": {"url": f"mongodb+srv://{CLUSTER}/?tls=false", "database_name": "app"},
        "retry": {"attempts": 1},
        "supervision": {"backoff_initial": 0.1, "backoff_max": 0.5},
    }
    settings = {"default": {"database": {"documents": {"main": tables}}}}

    async def main() -> None:
        async with open_connections(settings, metrics=CollectorRegistry()) as connections:
            async for status in connections["main"].watch():
                if status.state is State.FAILED:
                    assert status.reason is FailureReason.DNS, status
                    break
            zone.port = mongod.port
            await connections.wait_ready(timeout=SOON)
            assert connections["main"].status.generation == 1

    stack.run(main)
