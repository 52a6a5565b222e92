"""A network between a client and a server that fails when it is told to.

A TCP proxy on loopback, in a thread of its own: it serves tests of every world, and those that
block. A control method returns once what it says is in force. What the proxy does to a connection:

| call | connections that are open | newcomers |
|---|---|---|
| `heal()` | forwarded, what was held included | forwarded |
| `cut()` | reset, all of them, once | as before |
| `refuse()` | as before | refused: nobody listens |
| `blackhole()` | held: nothing passes, nothing is closed | accepted, and held |
| `delay(seconds)` | each chunk of the server's is so much later | the same |
| `throttle(rate)` | so many bytes a second, each way | the same |
| `half_open()` | ended on the server's side; the client is not told, now or ever | as before |
| `corrupt()` | what the server says has every bit flipped | the same |

`refuse`, `blackhole`, `delay`, `throttle` and `corrupt` last until the next of them or `heal`.
The fixture that hands proxies out, `proxy_factory`, is in `fault_fixtures.py`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio
from proxy_link import HEADER, Link, Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST: Final = "127.0.0.1"
SOON: Final = 10.0
"""How long the proxy's thread may take for what it is asked, in seconds."""

_CHUNK: Final = 65536


class Proxy:
    """Stands before the server at port `upstream` of loopback. Start it, and close it.

    Attributes:
        port: where clients connect; the same for life.
        upstream: the server's port.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = _free_port()
        self._weather = Weather()
        self._listener: trio.socket.SocketType
        self._changed: trio.Event
        self._links: set[Link] = set()
        self._accepted = 0
        self._news = threading.Condition()
        self._began: Future[trio.lowlevel.TrioToken] = Future()
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}")

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def accepted(self) -> int:
        """How many connections have come, since it was started."""
        return self._accepted

    @property
    def sockets(self) -> int:
        """How many sockets it holds for its connections, on both sides."""
        return sum(link.sockets for link in tuple(self._links))

    def start(self) -> Proxy:
        """Begin to listen."""
        self._thread.start()
        self._began.result(SOON)
        return self

    def close(self) -> None:
        """Close everything, and wait for the end of the thread. Idempotent."""
        if self._thread.is_alive():
            self._call(self._scope.cancel)
            self._thread.join(SOON)
            assert not self._thread.is_alive(), "the proxy's thread does not end"

    def wait_accepted(self, count: int) -> None:
        """Block until `count` connections have come, since it was started."""
        with self._news:
            assert self._news.wait_for(lambda: self._accepted >= count, SOON), (
                f"{self._accepted} connections have come, and not {count}"
            )

    # -- control: from any thread, and from any loop ------------------------------------------

    def heal(self) -> None:
        """Forward everything again."""
        self._become(Weather())

    def cut(self) -> None:
        """Reset all connections, now."""

        def reset_all() -> None:
            for link in tuple(self._links):
                link.close(reset=True)

        self._call(reset_all)

    def refuse(self) -> None:
        """Listen no more."""
        self._become(Weather(closed=True))

    def blackhole(self) -> None:
        """Let nothing pass in either direction, not even an end."""
        self._become(Weather(silent=True))

    def delay(self, seconds: float) -> None:
        """Hold each chunk that the server sends for so long."""
        self._become(Weather(delay=seconds))

    def throttle(self, rate: float) -> None:
        """Let so many bytes a second pass, each way."""
        self._become(Weather(rate=rate))

    def corrupt(self, *, header: bool = True) -> None:
        """Flip all bits of what the server says.

        Args:
            header: False keeps the first bytes of each chunk, which in MongoDB's protocol say how
                long the message is: the client takes it in, and then finds nonsense.
        """
        self._become(Weather(flipped_from=0 if header else HEADER))

    def half_open(self) -> None:
        """End the server's side of all connections; what clients say on them is swallowed."""

        def end_servers() -> None:
            for link in tuple(self._links):
                link.end_server()

        self._call(end_servers)

    def _become(self, weather: Weather) -> None:
        def change() -> None:
            before, self._weather = self._weather, weather
            if weather.closed and not before.closed:
                # Keeps its port, to listen at again: nobody can take that in the meantime.
                self._listener.shutdown(socket.SHUT_RD)
            elif before.closed and not weather.closed:
                self._listener.listen()
            changed, self._changed = self._changed, trio.Event()
            changed.set()

        self._call(change)

    def _call(self, function: Callable[[], object]) -> None:
        """Run `function` in the proxy's thread; returns when it has run."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - raised to the one who asked
                done.set_exception(error)
            else:
                done.set_result(None)

        self._began.result(SOON).run_sync_soon(run)
        done.result(SOON)

    # -- the proxy's thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            if not self._began.done():
                self._began.set_exception(error)
            raise

    async def _main(self) -> None:
        self._changed = trio.Event()
        self._listener = trio.socket.socket()
        # It may have connections of the past at its port, once it listens anew.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with self._listener:
            await self._listener.bind((HOST, self.port))
            self._listener.listen()
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._began.set_result(trio.lowlevel.current_trio_token())
                    while True:
                        await self._accept(nursery)

    async def _accept(self, nursery: trio.Nursery) -> None:
        if self._weather.closed:
            await self._changed.wait()
            return
        try:
            client, _ = await self._listener.accept()
        except OSError:
            if not self._weather.closed:
                raise
            return
        link = Link(trio.SocketStream(client))
        self._links.add(link)
        with self._news:
            self._accepted += 1
            self._news.notify_all()
        nursery.start_soon(self._serve, link)

    async def _serve(self, link: Link) -> None:
        try:
            await self._passage()
            try:
                link.server = await trio.open_tcp_stream(HOST, self.upstream)
            except OSError:
                link.close(reset=True)
                return
            async with trio.open_nursery() as nursery:
                for of_server in (False, True):
                    nursery.start_soon(self._pump, link, of_server, nursery.cancel_scope)
        finally:
            link.close()
            self._links.discard(link)

    async def _pump(self, link: Link, of_server: bool, both: trio.CancelScope) -> None:
        """One direction of a link, to its end, which is the other direction's, too."""
        assert link.server is not None
        source, sink = link.client, link.server
        if of_server:
            source, sink = sink, source
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while chunk := await source.receive_some(_CHUNK):
                if not link.deaf:
                    await self._forward(chunk, sink, of_server=of_server)
        if link.deaf and of_server:
            return  # the other direction goes on, for as long as the client believes in it
        await self._passage()
        both.cancel()

    async def _forward(self, chunk: bytes, sink: trio.SocketStream, *, of_server: bool) -> None:
        while chunk:
            await self._passage()
            weather = self._weather
            piece = weather.piece_of(chunk)
            if pause := weather.pause(piece, of_server=of_server):
                with trio.move_on_after(pause):
                    await self._changed.wait()
                    continue  # by other rules, from here on
            await sink.send_all(weather.spoilt(piece, of_server=of_server))
            chunk = chunk[len(piece) :]

    async def _passage(self) -> None:
        """Wait for as long as nothing passes."""
        while self._weather.silent:
            await self._changed.wait()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Proxies:
    """The proxies of one test, or of one process."""

    running: list[Proxy] = field(default_factory=list)

    def before(self, upstream: int) -> Proxy:
        """A proxy before the server at port `upstream`."""
        proxy = Proxy(upstream)
        self.running.append(proxy)
        return proxy.start()

    def close(self) -> None:
        for proxy in self.running:
            proxy.close()
            assert proxy.sockets == 0, "the proxy has left sockets open"


class ProxyFactory(Protocol):
    """Puts a proxy before the server at a port of loopback."""

    def __call__(self, upstream: int) -> Proxy: ...


@contextlib.contextmanager
def proxies() -> Iterator[Proxies]:
    """Proxies that are closed at the end, without a socket left."""
    kept = Proxies()
    try:
        yield kept
    finally:
        kept.close()
