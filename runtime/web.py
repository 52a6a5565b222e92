"""Moorings in a Starlette or FastAPI application: lifespan, dependency, answers, probes.

    app = FastAPI(lifespan=lifespan("settings.toml"))
    install(app)

    @app.get("/jobs")
    async def jobs(db: Annotated[Any, Depends(database("jobs"))]): ...

While a database is down such a request gets 503 with `Retry-After`, after at most `wait` seconds,
and `/moorings/readyz` says why. Needs the extra `moorings[web]`; FastAPI itself is not imported.

Applications that compose a lifespan of their own may enter this one in it, or open the connections
themselves and tell us either way that frameworks know: `app.state.connections = connections`, or
`yield {"connections": connections}`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

# FastAPI resolves a dependency's annotations when it is declared.
from starlette.requests import HTTPConnection  # noqa: TC002
from starlette.routing import Mount, Route

from ..errors import ConnectionNotReady
from .history import History
from .hosts import pause
from .http import Pages
from .opening import open_connections
from .web_outages import (
    STATE,
    OutageMiddleware,
    detail,
    find_manager,
    retry_after,
    unavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from prometheus_client import CollectorRegistry
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from ..providers.registry import DocumentDatabaseRegistry
    from .announcer import Observer
    from .http import Served
    from .loading import Source
    from .manager import ConnectionManager

    Lifespan = Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, Any]]]

__all__ = [
    "DatabaseUnavailable",
    "OutageMiddleware",
    "connections",
    "database",
    "install",
    "lifespan",
    "probes",
]

_UNOPENED = (
    "no connections are open in this application: give it lifespan=moorings.runtime.web."
    "lifespan(...), or set app.state.connections to what open_connections yields. Test clients "
    "run the lifespan only inside `with TestClient(app) as client`"
)


class DatabaseUnavailable(HTTPException):
    """503 with `Retry-After`, and the cause as `__cause__`. Frameworks answer with it as it is."""

    def __init__(self, error: ConnectionNotReady) -> None:
        super().__init__(503, detail(error.status), retry_after(error.status))


def lifespan(
    settings: Source | None = None,
    *,
    env: str | None = None,
    registry: DocumentDatabaseRegistry | None = None,
    metrics: CollectorRegistry | None = None,
    observers: Sequence[Observer] = (),
) -> Lifespan:
    """A lifespan that opens the connections: `FastAPI(lifespan=lifespan("settings.toml"))`.

    Inside a lifespan of your own: `async with lifespan(...)(app) as state`, and yield `state` or
    nothing. The manager is `app.state.connections`, and `request.state.connections` where the
    state was yielded, which mounted applications see, too.

    Args:
        settings: as `open_connections` takes them, like all else.
        env: the settings' layer; None: `MOORINGS_ENV`.
        registry: where backends are looked up; None: what is installed.
        metrics: where the collector is registered; None: prometheus_client's `REGISTRY`.
        observers: called with every `Transition`.

    A runtime that dies ends the lifespan; whether the server ends with it is the server's
    business (uvicorn goes on), so let `/livez` decide.
    """

    @asynccontextmanager
    async def opened(app: Starlette) -> AsyncGenerator[Mapping[str, Any], None]:
        async with open_connections(
            settings, env=env, registry=registry, metrics=metrics, observers=observers
        ) as manager:
            # Left there at the end: probes and late requests have to learn that it is closed.
            setattr(app.state, STATE, manager)
            manager.keep_history()  # the page may be looked at for the first time in an outage
            yield {STATE: manager}

    return opened


def connections(request: HTTPConnection) -> ConnectionManager:
    """The application's manager; a FastAPI dependency, too.

    Args:
        request: a request or a WebSocket of the application.

    Raises:
        RuntimeError: nobody has opened connections in this application.
    """
    manager = find_manager(request.scope)
    if manager is None:
        raise RuntimeError(_UNOPENED)
    return manager


def database(
    name: str | None = None, *, wait: float = 2.0
) -> Callable[[HTTPConnection], Awaitable[Any]]:
    """A dependency: the native database of a connection.

    FastAPI: `Annotated[Any, Depends(database("jobs"))]`. Starlette: `jobs = database("jobs")` once,
    then `await jobs(request)`. Keep what this returns to override it in tests.

    Args:
        name: the connection; None: the default one.
        wait: how many seconds a request may wait for it. Short: clients who are told can come
            back, and those who wait pile up.

    What it returns raises, when it is awaited:
        DatabaseUnavailable: not ready in time: 503 with `Retry-After`.
        UnknownConnection: no connection has this name.
        RuntimeError: nobody has opened connections in this application.
    """

    async def provide(request: HTTPConnection) -> Any:
        manager = connections(request)
        try:
            return await manager.get_database(name, timeout=wait)
        except ConnectionNotReady as error:
            raise DatabaseUnavailable(error) from error

    return provide


def install(
    app: Starlette,
    *,
    at: str | None = "/moorings",
    root_probes: bool = False,
    pages: bool | None = None,
) -> None:
    """Give an application the answers for an outage, and the probes. Before it has started.

    A request that fails because a database is down (`ConnectionNotReady`, or a driver's own error
    that the provider calls an outage) gets 503 with `Retry-After`. Other errors stay what they
    are, and the application's own exception handlers go first. Where middleware of yours uses a
    database, add `OutageMiddleware` outside of it as well.

    Args:
        app: a Starlette or FastAPI application.
        at: where the probes and metrics are mounted; None: nowhere.
        root_probes: whether /livez, /readyz and /startupz are at the root as well.
        pages: as `create_app` takes it.
    """
    # The innermost, whatever is added later: the application's CORS and the like see its answers.
    app.user_middleware.append(Middleware(OutageMiddleware))
    if not app.exception_handlers.keys() & {HTTPException, 503}:
        app.add_exception_handler(DatabaseUnavailable, _unavailable)
    # In front: a catch-all route must not hide the probes.
    if at is not None:
        app.router.routes.insert(0, Mount(at, probes(pages=pages)))
    if root_probes:
        for path in ("/livez", "/readyz", "/startupz"):
            app.router.routes.insert(0, Route(path, probes(pages=False), include_in_schema=False))


def probes(*, pages: bool | None = None) -> Probes:
    """The application of `moorings.runtime.http`, for an application's own manager: mount it.

    Unlike `create_app` it needs no manager yet: it looks it up for every request, and until there
    is one /livez and the others say 503.
    """
    return Probes(pages)


class Probes:
    """What `probes` returns: an ASGI application."""

    def __init__(self, pages: bool | None) -> None:
        self._pages = Pages(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        served: Served = find_manager(scope) or _NotOpened()
        await self._pages.serve(served, scope, receive, send)


class _NotOpened:
    """Stands where a manager will be."""

    name = "moorings"
    closing = False
    closed = True  # a stream of events ends at once, and its reader comes back
    checks: Mapping[str, Callable[[], object]] = {}

    def statuses(self) -> tuple[()]:
        return ()

    def is_alive(self) -> bool:
        return False

    def is_started(self) -> bool:
        return False

    def keep_history(self) -> History:
        return History(lambda: ())

    async def change_within(self, seconds: float) -> None:
        await pause(seconds)

    @property
    def metrics(self) -> _NotOpened:
        return self

    async def render(self, openmetrics: bool) -> bytes:
        return b"# EOF\n" if openmetrics else b""


async def _unavailable(_: Request, error: Exception) -> Response:
    """Starlette's own answer would be plain text; FastAPI's is what this is."""
    assert isinstance(error, DatabaseUnavailable)  # noqa: S101 - what it is registered for
    return unavailable(error.detail, error.headers)
