"""The HTTP face of a manager: an ASGI application without a framework, for trio and for asyncio.

Every answer but `/metrics` and `/events` is made from cached state, without I/O: a probe never
waits for a database. The exporter serves it; `create_app` gives the same to whoever mounts it.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .feed import Shown
from .http_events import Streams
from .http_pages import PAGE_HEADERS, index
from .http_probes import livez, readyz, startupz
from .metrics import OPENMETRICS, TEXT
from .net import is_loopback
from .slices import joined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_logger = logging.getLogger("moorings.http")

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

_NO_PAGES = (
    "Connection details are shown on loopback only. To show them here, set\n"
    "    [default.runtime.exporter]\n"
    "    pages = true\n"
)


class Metrics(Protocol):
    """Where `/metrics` comes from."""

    async def render(self, openmetrics: bool) -> bytes:
        """Everything, in one of the two formats. May take long; lets others run meanwhile."""


class Served(Shown, Protocol):
    """What the application needs of a manager."""

    @property
    def metrics(self) -> Metrics:
        """Where `/metrics` comes from."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def create_app(manager: Served, *, pages: bool | None = None) -> App:
    """An ASGI application: /livez, /startupz, /readyz, /connections, /events, /metrics and /.

    Mount it wherever you like; links follow the mount's path.

    Args:
        manager: what `open_connections` yields.
        pages: whether `/`, `/connections` and `/events`, which name backends and errors, are
            shown. None: only to requests that arrive at a loopback address.
    """
    pages_of_it = Pages(pages)
    if pages is not False:
        manager.keep_history()  # from now on, and not from the first look

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await pages_of_it.serve(manager, scope, receive, send)

    return app


class Pages:
    """What `create_app` makes an application of, for any manager.

    Args:
        shown: as `create_app` takes `pages`.
    """

    def __init__(self, shown: bool | None) -> None:
        self._shown = shown
        self._streams = Streams()

    async def serve(self, manager: Served, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, in the words of ASGI."""
        match scope["type"]:
            case "http":
                reply = await _reply(manager, self._shown, scope)
                if reply is None:
                    await self._streams.serve(manager, scope["method"], receive, send)
                else:
                    await _send(send, reply, scope["method"])
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case "lifespan":
                await _lifespan(receive, send)
            case other:
                raise ValueError(f"not a protocol of this application: {other}")


async def _reply(manager: Served, pages: bool | None, scope: Scope) -> _Reply | None:
    """The answer as a whole; None: it is a stream."""
    path = _path(scope)
    if path not in _ROUTES and path != EVENTS:
        return _Reply(404, PLAIN, b"There is no such page.\n")
    if scope["method"] not in {"GET", "HEAD"}:
        return _Reply(405, PLAIN, b"GET or HEAD.\n", ((b"allow", b"GET, HEAD"),))
    if path in _PAGES and not _may_see(pages, scope):
        return _Reply(403, PLAIN, _NO_PAGES.encode())
    if path == EVENTS:
        return None
    try:
        return await _ROUTES[path](manager, scope)
    except Exception:
        # What went wrong is for the log: an error's text may hold what strangers must not read.
        _logger.exception("%s failed", path)
        return _Reply(500, PLAIN, b"Internal error; the log has it.\n")


def _path(scope: Scope) -> str:
    # Servers and frameworks disagree whether `path` includes the mount's; both are understood.
    path: str = scope["path"]
    root = _root(scope)
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path or "/"


def _root(scope: Scope) -> str:
    return str(scope.get("root_path") or "").rstrip("/")


def _may_see(pages: bool | None, scope: Scope) -> bool:
    if pages is not None:
        return pages
    server = scope.get("server")
    return server is not None and is_loopback(str(server[0]))


# -- routes


async def _livez(manager: Served, scope: Scope) -> _Reply:  # noqa: ARG001 - a route's signature
    return _probe(livez(manager))


async def _startupz(manager: Served, scope: Scope) -> _Reply:  # noqa: ARG001
    return _probe(startupz(manager))


async def _readyz(manager: Served, scope: Scope) -> _Reply:  # noqa: ARG001
    return _probe(readyz(manager))


async def _connections(manager: Served, scope: Scope) -> _Reply:  # noqa: ARG001
    return _Reply(200, JSON, _json([asdict(status) for status in manager.statuses()]))


async def _metrics(manager: Served, scope: Scope) -> _Reply:
    openmetrics = wants_openmetrics(_header(scope, b"accept"))
    body = await manager.metrics.render(openmetrics)
    return _Reply(200, OPENMETRICS if openmetrics else TEXT, body, ((b"vary", b"Accept"),))


async def _index(manager: Served, scope: Scope) -> _Reply:
    body, _ = await joined(index(manager, _root(scope), time.time()))
    return _Reply(200, HTML, body, PAGE_HEADERS)


_ROUTES = {
    "/": _index,
    "/connections": _connections,
    "/livez": _livez,
    "/metrics": _metrics,
    "/readyz": _readyz,
    "/startupz": _startupz,
}
EVENTS = "/events"
_PAGES = frozenset({"/", "/connections", EVENTS})


def _probe(answer: dict[str, Any]) -> _Reply:
    return _Reply(200 if answer["status"] == "healthy" else 503, JSON, _json(answer))


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


# -- the protocol


def _header(scope: Scope, name: bytes) -> str:
    """All values of a header, joined as HTTP says they may be."""
    found = [value for key, value in scope["headers"] if key.lower() == name]
    return b",".join(found).decode("latin-1")


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics to the text format, which is the default."""
    openmetrics = plain = 0.0
    for media in accept.lower().split(","):
        kind, _, rest = media.partition(";")
        parameters = dict(part.strip().partition("=")[::2] for part in rest.split(";"))
        quality = _quality(parameters.get("q", "1"))
        version = parameters.get("version", "")
        if kind.strip() == "application/openmetrics-text" and version in {"", "1.0.0", "0.0.1"}:
            openmetrics = max(openmetrics, quality)
        elif kind.strip() == "text/plain" and version in {"", "0.0.4"}:
            plain = max(plain, quality)
    return openmetrics > 0 and openmetrics >= plain


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


async def _send(send: Send, reply: _Reply, method: str) -> None:
    headers = [
        (b"content-type", reply.type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    body = b"" if method == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    # Nothing to start or stop: the manager's own block does that.
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
