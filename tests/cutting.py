"""A proxy that cuts every stream of events off, as some on the way to a program do."""

from __future__ import annotations

import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 30.0
"""How long anything that was asked for may take to happen."""
KEPT = ("content-type", "content-security-policy")


class Cutting:
    """Passes on to `program`; a stream only up to the end of its first event.

    Attributes:
        cuts: whether it does; otherwise it passes on whatever comes, until the reader leaves.
    """

    def __init__(self, program: str) -> None:
        self.cuts = True
        self._streams: list[float] = []
        self._more = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(program))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def until_streams(self, count: int) -> list[float]:
        """When the first so many streams were asked for, in seconds of a clock."""
        with self._more:
            assert self._more.wait_for(lambda: len(self._streams) >= count, SECONDS)
            return self._streams[:count]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _stream(self) -> None:
        with self._more:
            self._streams.append(time.monotonic())
            self._more.notify_all()

    def _handler(self, program: str) -> type[BaseHTTPRequestHandler]:
        cutting = self

        class Passing(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(program + self.path, timeout=SECONDS) as answer:
                    self.send_response(answer.status)
                    for name in KEPT:
                        if name in answer.headers:
                            self.send_header(name, answer.headers[name])
                    self.end_headers()
                    if self.path != "/events":
                        self.wfile.write(answer.read())
                        return
                    cutting._stream()
                    try:
                        for line in answer:
                            self.wfile.write(line)
                            if cutting.cuts and line == b"\n":
                                break
                    except ConnectionError:
                        pass  # the reader left

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Passing


@pytest.fixture
def cutting() -> Iterator[Callable[[str], Cutting]]:
    """Starts a `Cutting` before a program, given by its URL."""
    proxies: list[Cutting] = []

    def before(program: str) -> Cutting:
        proxies.append(Cutting(program))
        return proxies[-1]

    yield before
    for proxy in proxies:
        proxy.close()
