"""Many supervised connections of one program to one server, each a client of its own.

`python -m tests.bench_faults.crowd URL COUNT`. PyMongo's asynchronous client, because it has no
threads. Ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys

from prometheus_client import CollectorRegistry

from moorings import open_connections

from .connections import changed

NAME = "c{}"


async def main(url: str, count: int) -> None:
    """Hold the connections until stdin ends."""
    connection = {"backend": "pymongo", "provider": {"url": url, "database_name": "bench"}}
    documents = {NAME.format(n): connection for n in range(count)}
    settings = {
        "default": {
            "database": {"documents": documents, "default_document_connection": NAME.format(0)}
        }
    }
    async with open_connections(settings, metrics=CollectorRegistry(), observers=(changed,)):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    # Three sockets a client: its pool's, and two of the driver's monitor.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.getLogger("moorings").addHandler(logging.NullHandler())
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
