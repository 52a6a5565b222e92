"""Serves an ASGI application on trio: hypercorn's protocol, with our own bounds around it.

Hypercorn writes under a shield and without a deadline, so that one client which never reads would
hold up cancellation for ever, and its own `serve` drops requests when it is cancelled. Here every
write is bounded, connections are counted, and a cancelled server finishes what it is answering,
within `GRACE`, before it closes the rest.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

import trio

from ..errors import SettingsError, SettingsProblem
from .net import url

if TYPE_CHECKING:
    from collections.abc import Callable

    from .http import App

GRACE = 2.0
"""How long answers under way may take once the server is cancelled, or the client has closed its
side, in seconds."""
KEEP_ALIVE = 15.0
"""How long a connection may idle, and a request's head may take to arrive, in seconds."""
WRITE_TIMEOUT = 10.0
"""How long one write may wait for a client that does not read, in seconds."""
READ_TIMEOUT = 900
"""How long a client may be silent while it is answered, in whole seconds: longer than the longest
answer, a stream of events. Heads have `KEEP_ALIVE`, and bodies are refused."""
IDLE = 30.0
"""How long nothing at all may pass on a connection, either way, in seconds: longer than an answer
takes to begin. HTTP/2 knows no `KEEP_ALIVE`."""
MAX_HEAD = 16 * 1024
"""The largest request head, in bytes: there is nothing to say that would take more."""
MAX_CONNECTIONS = 100
"""Connections beyond this many are closed as they come."""
MAX_PORT = 65535
UNLOCATED = "settings"
"""The file of a problem, for want of knowing where the settings came from."""

_logger = logging.getLogger("moorings.exporter")


async def serve(
    app: App,
    host: str,
    port: int,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then finish within `GRACE` seconds and a moment.

    Installs no signal handlers. Says `task_status.started(urls)` once it listens.

    Args:
        app: an ASGI application.
        host: the address or name to bind; a name may stand for several addresses.
        port: the port; 0 lets the system choose.
        task_status: trio's; gets the URLs.

    Raises:
        SettingsError: the address cannot be bound.
    """
    listeners = await _listen(host, port)
    connections = _Connections(app)
    try:
        async with trio.open_nursery() as nursery:
            try:
                # In a cancelled scope `start` would wait for the end of this task: for ever.
                with trio.CancelScope(shield=True):
                    handlers = await nursery.start(connections.hold)
                task_status.started(_urls(listeners))
                await trio.serve_listeners(connections.handle, listeners, handler_nursery=handlers)
            finally:
                connections.finish()
    finally:
        for listener in listeners:  # where serving was cancelled before it began
            listener.socket.close()


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    if not 0 <= port <= MAX_PORT:  # a resolver takes 65536 for 0, and binds any
        problem = f"{port} is no port"
        raise SettingsError(_settings("port", problem, f"Choose one from 0 to {MAX_PORT}"))
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise SettingsError(_problem(host, port, error)) from error


def _problem(host: str, port: int, error: OSError) -> SettingsProblem:
    where = url(host, port).removeprefix("http://")
    match error.errno:
        case errno.EADDRINUSE:
            return _settings(
                "port",
                f"{where} is taken by another process (whose, cannot be told from here)",
                f"Choose another port (0 for any), or stop what `ss -ltnp sport = :{port}` shows",
            )
        case errno.EACCES | errno.EPERM:
            cure = "Choose a port above 1023, or grant the capability to bind it"
            return _settings("port", f"this user may not bind {where}", cure)
    why = error.strerror or str(error)
    return _settings(
        "host", f"{host!r} cannot be bound: {why}", "Use an address that this machine has"
    )


def _settings(key: str, problem: str, cure: str) -> SettingsProblem:
    return SettingsProblem(UNLOCATED, "", f"runtime.exporter.{key}", problem, cure)


def _urls(listeners: list[trio.SocketListener]) -> tuple[str, ...]:
    return tuple(url(*listener.socket.getsockname()[:2]) for listener in listeners)


class _Connections:
    """The connections of one server: made, bounded, and at the end seen off."""

    def __init__(self, app: App) -> None:
        from hypercorn.app_wrappers import ASGIWrapper  # noqa: PLC0415 - 50 ms, when it is served
        from hypercorn.trio.tcp_server import TCPServer  # noqa: PLC0415
        from hypercorn.trio.worker_context import WorkerContext  # noqa: PLC0415
        from hypercorn.typing import ConnectionState  # noqa: PLC0415

        self._config = _config()
        self._context = WorkerContext(None)
        self._make: Callable[[_BoundedStream], Any] = lambda stream: TCPServer(
            ASGIWrapper(_bounded(_without_bodies(app), stream)),  # type: ignore[arg-type]
            self._config,
            self._context,
            ConnectionState({}),
            stream,  # type: ignore[arg-type]
        )
        self._streams: set[_BoundedStream] = set()
        self._full = False
        self._finishing = trio.Event()
        self._one_fewer = trio.Event()

    async def hold(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Own the connections' tasks. Shielded: `finish` ends them, in order, not the caller."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as handlers:
                task_status.started(handlers)
                await self._finishing.wait()
                await self._context.terminated.set()  # idle connections close at once
                with trio.move_on_after(GRACE):
                    while self._streams:
                        await self._one_fewer.wait()
                for stream in tuple(self._streams):
                    stream.abort()  # wakes writers that no cancellation reaches
                handlers.cancel_scope.cancel()

    def finish(self) -> None:
        """Begin the end: no more requests, `GRACE` for those under way."""
        self._finishing.set()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        if len(self._streams) >= MAX_CONNECTIONS:
            if not self._full:
                _logger.warning("more than %d connections: refused until fewer", MAX_CONNECTIONS)
            self._full = True
            stream.socket.close()
            return
        self._full = False
        bounded = _BoundedStream(stream)
        self._streams.add(bounded)
        try:
            with bounded.life:
                await self._make(bounded).run()
        except Exception:
            # One client's oddities are no reason to stop serving the others.
            _logger.warning("a connection failed", exc_info=True)
        finally:
            bounded.abort()
            self._streams.discard(bounded)
            self._one_fewer.set()
            self._one_fewer = trio.Event()


class _BoundedStream:
    """A socket whose writes end: hypercorn sees a broken stream where a client does not read."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.life = trio.CancelScope(deadline=trio.current_time() + IDLE)
        self._left = False

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(WRITE_TIMEOUT) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            self.abort()
            raise trio.BrokenResourceError("the client does not read")
        self._moved()

    async def receive_some(self, max_bytes: int) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        if not data:
            # Hypercorn would keep a connection that the client has left until KEEP_ALIVE is over.
            self._left = True
            self.life.deadline = trio.current_time() + GRACE
        self._moved()
        return data

    def _moved(self) -> None:
        if not self._left:
            self.life.deadline = trio.current_time() + IDLE

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        """Close at once; whoever reads or writes gets a `ClosedResourceError`."""
        self.socket.close()


def _config() -> Any:
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.accesslog = None
    config.errorlog = _logger
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE
    config.read_timeout = READ_TIMEOUT
    config.h11_max_incomplete_size = MAX_HEAD
    # Unbounded, because a full queue would block the task that empties it; bodies are refused.
    config.max_app_queue_size = float("inf")  # type: ignore[assignment]
    return config


def _without_bodies(app: App) -> App:
    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _has_body(scope):
            await _refuse(send)
        else:
            await app(scope, receive, send)

    return guarded


def _bounded(app: App, stream: _BoundedStream) -> App:
    """An HTTP/2 client's own window holds answers back where no write of ours waits for it."""

    async def bounded(scope: Any, receive: Any, send: Any) -> None:
        async def send_within(message: Any) -> None:
            with trio.move_on_after(WRITE_TIMEOUT + GRACE) as patience:
                await send(message)
            if patience.cancelled_caught:
                stream.abort()

        await app(scope, receive, send_within)

    return bounded


def _has_body(scope: Any) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


async def _refuse(send: Any) -> None:
    headers = [
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
