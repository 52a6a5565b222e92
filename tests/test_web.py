"""Starlette and FastAPI: dependency, answers, probes. In one process; servers are elsewhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from pymongo.errors import AutoReconnect, DuplicateKeyError, NetworkTimeout, OperationFailure
from settings_files import settings
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import WebSocketDenialResponse

from moorings import (
    ConnectionManager,
    ConnectionNotReady,
    ConnectionStatus,
    FailureReason,
    State,
    open_connections,
)
from moorings.runtime.web import (
    OutageMiddleware,
    connections,
    database,
    install,
    lifespan,
    probes,
)
from moorings.runtime.web_outages import retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

# A request waits 50 ms for its database, and a first client may take longer: the lifespan waits.
LOCAL = settings(
    {"jobs": {"backend": "local"}, "other": {"backend": "local", "required": False}},
    runtime={"startup": "wait"},
)

JOBS = database("jobs", wait=0.05)


def opening() -> Any:
    return lifespan(LOCAL, metrics=CollectorRegistry())


async def bring_down(manager: ConnectionManager) -> None:
    """End the database; return when the first attempt to reach it has said why it fails.

    Until then what a request is told depends on who is first, and from then on it is the same.
    """
    jobs = manager["jobs"]
    jobs.provider.faults.refuse()  # type: ignore[attr-defined]
    async for status in jobs.watch():
        if status.reason is FailureReason.REFUSED:
            return


def application(raised: Exception | None = None, **options: Any) -> FastAPI:
    """An application whose `/` counts, whose `/down` ends the database, and which may fail."""
    app = FastAPI(lifespan=opening())
    install(app, **options)

    @app.get("/")
    async def count(db: Annotated[Any, Depends(database(wait=0.05))]) -> int:
        return int(await db.things.count_documents({}))

    @app.get("/down")
    async def down(manager: Annotated[ConnectionManager, Depends(connections)]) -> None:
        await bring_down(manager)

    @app.get("/fails")
    async def fails() -> None:
        assert raised is not None
        raise raised

    return app


def client(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def assert_unavailable(answer: Any, reason: str) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert reason in answer.json()["detail"]


# -- the dependency


def test_a_request_gets_the_native_database() -> None:
    with client(application()) as web:
        assert web.get("/").json() == 0


def test_while_it_is_down_a_request_gets_503_and_why() -> None:
    with client(application()) as web:
        web.get("/down")
        assert_unavailable(web.get("/"), "'jobs' is not ready: refused")


def test_the_dependency_answers_without_install_too() -> None:
    app = FastAPI(lifespan=opening())

    @app.get("/")
    async def asks(
        manager: Annotated[ConnectionManager, Depends(connections)],
        other: Annotated[Any, Depends(database("other"))],
    ) -> str:
        await manager.stop("other")
        return "stopped"

    with client(app) as web:
        assert web.get("/").status_code == 200
        assert_unavailable(web.get("/"), "'other' is not ready: stopped")


def test_after_the_lifespan_the_answer_is_503() -> None:
    """As under uvicorn, which serves on when the lifespan has ended in an error."""
    app = application()

    async def main() -> Any:
        async with app.router.lifespan_context(app):
            pass
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as web:
            return await web.get("/")

    assert_unavailable(asyncio.run(main()), "'jobs' is not ready: stopped")


def test_an_override_replaces_it_in_tests() -> None:
    app = FastAPI()

    @app.get("/")
    async def shows(db: Annotated[Any, Depends(JOBS)]) -> Any:
        return db

    app.dependency_overrides[JOBS] = lambda: "a double"
    assert client(app).get("/").json() == "a double"


def test_it_serves_websockets_too() -> None:
    app = application()

    @app.websocket("/socket")
    async def socket(socket: WebSocket, db: Annotated[Any, Depends(database(wait=0.05))]) -> None:
        await socket.accept()
        await socket.send_json(await db.things.count_documents({}))
        await socket.close()

    with client(app) as web:
        with web.websocket_connect("/socket") as connected:
            assert connected.receive_json() == 0
        web.get("/down")
        with pytest.raises(WebSocketDenialResponse) as denied, web.websocket_connect("/socket"):
            pass
        assert denied.value.status_code == 503


def test_plain_starlette_awaits_it() -> None:
    async def count(request: Request) -> JSONResponse:
        return JSONResponse(await (await JOBS(request)).things.count_documents({}))

    async def down(request: Request) -> PlainTextResponse:
        await bring_down(connections(request))
        return PlainTextResponse("done")

    app = Starlette(lifespan=opening(), routes=[Route("/", count), Route("/down", down)])
    install(app)
    with client(app) as web:
        assert web.get("/").json() == 0
        web.get("/down")
        assert_unavailable(web.get("/"), "'jobs' is not ready: refused")


def test_an_applications_own_shape_of_errors_stays_its_own() -> None:
    async def own(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("ours", 418)

    async def asks(request: Request) -> None:
        await connections(request).stop("jobs")
        await JOBS(request)

    app = Starlette(lifespan=opening(), routes=[Route("/", asks)], exception_handlers={503: own})
    install(app)
    with client(app) as web:
        assert web.get("/").status_code == 418


@pytest.mark.parametrize("use", ["database", "connections"])
def test_where_nobody_opened_connections_it_says_how(use: str) -> None:
    app = FastAPI()
    dependency: Callable[..., Any] = database() if use == "database" else connections

    @app.get("/", dependencies=[Depends(dependency)])
    async def asks() -> None:
        pass

    with pytest.raises(RuntimeError, match=r"lifespan=moorings\.runtime\.web\.lifespan"):
        TestClient(app).get("/")


# -- where the manager is found


def test_in_a_lifespan_of_ones_own() -> None:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        async with opening()(app):
            yield

    app = application()
    app.router.lifespan_context = own
    with client(app) as web:
        assert web.get("/").status_code == 200


@pytest.mark.parametrize("told", ["state", "app.state"])
def test_opened_by_the_application_itself(told: str) -> None:
    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with open_connections(LOCAL, metrics=CollectorRegistry()) as manager:
            if told == "app.state":
                app.state.connections = manager
            yield {"connections": manager if told == "state" else "something else"}

    app = application()
    app.router.lifespan_context = own
    with client(app) as web:
        assert web.get("/").status_code == 200


def test_a_mounted_application_finds_it() -> None:
    inner = application(at=None)
    app = Starlette(lifespan=opening(), routes=[Mount("/inner", inner)])
    with client(app) as web:
        assert web.get("/inner/").json() == 0


# -- errors of a request

OUTAGES = [
    AutoReconnect("connection closed"),
    NetworkTimeout("timed out"),
    ConnectionNotReady("not yet"),
    ExceptionGroup("tasks", [AutoReconnect("connection closed"), ConnectionNotReady("no")]),
]
PASSING = [
    LookupError("a bug"),
    DuplicateKeyError("twice"),
    OperationFailure("not authorized", 13),
    TimeoutError("somebody else's"),
    ConnectionRefusedError("somebody else's"),
    ExceptionGroup("tasks", [AutoReconnect("connection closed"), LookupError("a bug")]),
]


@pytest.fixture
def mongo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The in-memory connections classify as the real backend does."""
    from moorings import LocalDBProvider
    from moorings.providers.mongo_errors import classify

    monkeypatch.setattr(LocalDBProvider, "classify", lambda _, error: classify(error))


@pytest.mark.usefixtures("mongo")
@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_a_drivers_error_in_an_outage_is_503(error: Exception) -> None:
    with client(application(error)) as web:
        answer = web.get("/fails")
    assert_unavailable(answer, "database")
    assert str(error) not in answer.text


@pytest.mark.usefixtures("mongo")
@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_any_other_error_is_500_and_passes_as_it_is(error: Exception) -> None:
    app = application(error)
    with client(app) as web:
        assert web.get("/fails").status_code == 500
    with TestClient(app) as web, pytest.raises(type(error)) as caught:
        web.get("/fails")
    assert caught.value is error


def test_an_outage_between_dependency_and_call_is_503() -> None:
    app = application()

    @app.get("/dies")
    async def dies(manager: Annotated[ConnectionManager, Depends(connections)]) -> None:
        held = manager.database()
        manager["jobs"].provider.faults.refuse()
        await held.things.find_one()

    with client(app) as web:
        answer = web.get("/dies")
    assert_unavailable(answer, "")  # what it says depends on who is first: it, or the next attempt
    assert "refused" in answer.text or "'jobs' is not ready" in answer.text


def test_an_applications_own_handler_goes_first() -> None:
    app = application(ConnectionNotReady("no"))

    @app.exception_handler(ConnectionNotReady)
    async def own(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("ours", 418)

    with client(app) as web:
        assert web.get("/fails").status_code == 418


def test_middleware_that_comes_later_sees_the_answer() -> None:
    """Such as CORS, without which a browser would hide it."""
    app = application(ConnectionNotReady("no"))
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    with client(app) as web:
        answer = web.get("/fails", headers={"origin": "http://elsewhere.example"})
    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == "*"


def test_middleware_that_uses_a_database_can_be_covered() -> None:
    class Uses:
        def __init__(self, app: Any) -> None:
            pass

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                raise ConnectionNotReady("no")

    app = FastAPI()
    app.add_middleware(Uses)
    app.add_middleware(OutageMiddleware)
    assert client(app).get("/").status_code == 503


def test_an_answer_that_has_begun_is_not_replaced() -> None:
    app = application()

    async def chunks() -> AsyncIterator[str]:
        yield "begun"
        raise ConnectionNotReady("no")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(chunks())

    with TestClient(app) as web, pytest.raises(ConnectionNotReady):
        web.get("/stream")


# -- probes


@pytest.mark.parametrize("path", ["/moorings/livez", "/moorings/readyz", "/moorings/startupz"])
def test_probes_are_mounted(path: str) -> None:
    with client(application()) as web:
        web.get("/")
        assert web.get(path).status_code == 200


def test_probes_may_be_at_the_root_and_no_route_hides_them() -> None:
    app = FastAPI(lifespan=opening())

    @app.get("/{path:path}")
    async def everything(path: str) -> str:
        return path

    install(app, at="/health", root_probes=True)
    with client(app) as web:
        for path in ("/livez", "/readyz", "/startupz", "/health/livez"):
            assert web.get(path).json()["status"] in {"healthy", "unhealthy"}
        assert web.get("/metrics").json() == "metrics"


def test_probes_are_no_part_of_the_schema() -> None:
    assert list(application(root_probes=True).openapi()["paths"]) == ["/", "/down", "/fails"]


def test_readyz_follows_the_database_and_livez_does_not() -> None:
    with client(application()) as web:
        web.get("/down")
        readyz = web.get("/moorings/readyz")
        assert readyz.status_code == 503
        assert readyz.json()["reasons"]["jobs"] == "refused"
        assert web.get("/moorings/livez").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_without_connections_say_503(path: str) -> None:
    app = Starlette(routes=[Mount("/moorings", probes())])
    assert client(app).get(f"/moorings{path}").status_code == 503
    assert client(app).get("/moorings/metrics").text == ""


def test_events_of_nothing_yet_end_at_once() -> None:
    """The page asks again, and follows as soon as there is something."""
    app = FastAPI()
    install(app, pages=True)
    answer = client(app).get("/moorings/events")
    assert answer.status_code == 200
    assert '"connections": []' in answer.text
    assert '"why": "closed"' in answer.text


def test_probes_after_the_end_say_503() -> None:
    app = application()
    with client(app):
        pass
    assert client(app).get("/moorings/livez").status_code == 503


# -- details


def test_retry_after_is_the_next_attempt_and_at_least_a_second() -> None:
    def after(seconds: float | None) -> dict[str, str]:
        due = None if seconds is None else time.time() + seconds
        status = ConnectionStatus(
            "a", "local", required=True, state=State.FAILED, since=0.0, next_attempt_at=due
        )
        return retry_after(status)

    assert after(29.5) == {"Retry-After": "30"}
    assert after(-5) == after(0.2) == after(None) == retry_after(None) == {"Retry-After": "1"}


def test_importing_it_imports_neither_fastapi_nor_a_driver() -> None:
    program = (
        "import sys, moorings.runtime.web\n"
        "print([m for m in ('fastapi', 'pymongo', 'motor', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
