"""What a program without Moorings does: loops that poll a bounded ping.

`python -m tests.bench_faults.polls URL`. For each interval there are as many loops as `PHASES`,
spread over it: a server may die at any moment of theirs. Ends when its stdin does.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from .record import Told

INTERVALS = (1, 5, 10)
PHASES = 5
BOUND = 2.0
"""How long one ping may take, in seconds: as our own."""

told = Told()
over = threading.Event()


def loops(interval: int) -> list[str]:
    """What those with this interval are called."""
    return [f"{interval} s #{phase}" for phase in range(PHASES)]


def poll(url: str, name: str, interval: float, offset: float) -> None:
    """Ping, wait, and so on."""
    over.wait(offset)
    before = ""
    client = pymongo.MongoClient[dict[str, Any]](url)
    while not over.is_set():
        try:
            with pymongo.timeout(BOUND):
                client.admin.command("ping")
            now = "up"
        except PyMongoError:
            now = "down"
        if now != before:
            told.tell(name, now)
        before = now
        over.wait(interval)
    with pymongo.timeout(BOUND):  # the server may be gone
        client.close()


if __name__ == "__main__":
    threads = [
        threading.Thread(target=poll, args=(sys.argv[1], name, interval, n * interval / PHASES))
        for interval in INTERVALS
        for n, name in enumerate(loops(interval))
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
