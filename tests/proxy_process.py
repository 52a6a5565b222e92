"""Proxies in a process of their own: for who counts its own sockets, or is short of time.

`python proxy_process.py PORT …` puts one before each port. It says on stdout where they are, then
does what it is told on stdin, a line of JSON each, and answers each with one. It ends with stdin.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from proxy import HOST, proxies

if TYPE_CHECKING:
    from collections.abc import Iterator


class RemoteProxy:
    """A `Proxy` in another process, as far as it is controlled."""

    def __init__(self, process: RemoteProxies, number: int, port: int) -> None:
        self._process = process
        self._number = number
        self.port = port

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def heal(self) -> None:
        self._process.call(self._number, "heal")

    def blackhole(self) -> None:
        self._process.call(self._number, "blackhole")


class RemoteProxies:
    """The process, and the proxies in it."""

    def __init__(self, upstreams: list[int]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            (sys.executable, __file__, *map(str, upstreams)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.proxies = [
            RemoteProxy(self, number, port) for number, port in enumerate(self._answer())
        ]

    def call(self, number: int, method: str) -> None:
        """Call a method of a proxy; returns when it has returned."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps([number, method]) + "\n")
            assert self._answer() == "done"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        status = self._process.wait()
        self._process.stdout.close()
        assert status == 0, "the proxies' process has failed"

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def remote_proxies(upstreams: list[int]) -> Iterator[list[RemoteProxy]]:
    """Proxies before these ports, in a process that ends with the block."""
    remote = RemoteProxies(upstreams)
    try:
        yield remote.proxies
    finally:
        remote.close()


def main(upstreams: list[int]) -> None:
    """Serve until the end of stdin."""
    with proxies() as kept:
        running = [kept.before(port) for port in upstreams]
        print(json.dumps([proxy.port for proxy in running]), flush=True)
        for line in sys.stdin:
            number, method = json.loads(line)
            getattr(running[number], method)()
            print(json.dumps("done"), flush=True)


if __name__ == "__main__":
    main(list(map(int, sys.argv[1:])))
