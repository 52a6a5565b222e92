"""The ASGI application: what each page says, and how it speaks HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from served import FakeManager, connection

from moorings.errors import FailureReason
from moorings.runtime.http import create_app, wants_openmetrics
from moorings.runtime.net import is_loopback, url
from moorings.runtime.state import State


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


async def ask(
    app: Any,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    **scope: Any,
) -> Answer:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    encoded = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": encoded,
        "server": ("127.0.0.1", 9464),
    } | scope
    await app(scope, receive, send)
    start, *bodies = sent
    received = {key.decode(): value.decode() for key, value in start["headers"]}
    return Answer(start["status"], received, b"".join(part["body"] for part in bodies))


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager([connection("a"), connection("b", required=False)])


@pytest.fixture
def app(manager: FakeManager) -> Any:
    return create_app(manager)


# -- probes


async def test_readyz_is_healthy_when_all_required_are_ready(app: Any) -> None:
    answer = await ask(app, "/readyz")
    assert answer.status == 200
    assert answer.json() == {"status": "healthy", "checks": {"a": "ok", "b": "ok"}, "reasons": {}}


async def test_readyz_says_which_required_connection_fails_and_why() -> None:
    failed = connection("default_mongo", State.FAILED, reason=FailureReason.REFUSED)
    answer = await ask(create_app(FakeManager([failed])), "/readyz")
    assert answer.status == 503
    assert answer.json() == {
        "status": "unhealthy",
        "checks": {"default_mongo": "fail"},
        "reasons": {"default_mongo": "refused"},
    }


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
async def test_no_state_but_ready_is_ready_and_without_a_reason_it_is_named(state: State) -> None:
    answer = await ask(create_app(FakeManager([connection("a", state)])), "/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == {"a": state.value}


async def test_an_optional_connection_is_skipped_and_does_not_gate(manager: FakeManager) -> None:
    manager.connections[1] = connection(
        "b", State.FAILED, required=False, reason=FailureReason.AUTH
    )
    answer = await ask(create_app(manager), "/readyz")
    assert answer.status == 200
    assert answer.json()["checks"] == {"a": "ok", "b": "skipped"}
    assert answer.json()["reasons"] == {"b": "auth"}


async def test_readyz_is_503_while_closing_and_without_a_heartbeat(
    app: Any, manager: FakeManager
) -> None:
    manager.closing = True
    answer = await ask(app, "/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == {"kernel": "closing"}
    manager.alive = False
    answer = await ask(app, "/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == {"kernel": "no heartbeat"}
    assert answer.json()["checks"]["kernel"] == "fail"


async def test_the_applications_own_checks_are_run(app: Any, manager: FakeManager) -> None:
    def broken() -> object:
        raise LookupError("a secret")

    async def asynchronous() -> None:
        """Never awaited, on purpose."""

    manager.checks = {
        "none": lambda: None,
        "zero": lambda: 0,
        "false": lambda: False,
        "broken": broken,
        "asynchronous": asynchronous,
    }
    answer = await ask(app, "/readyz")
    assert answer.status == 503
    assert answer.json()["checks"] == {
        "a": "ok",
        "b": "ok",
        "none": "ok",
        "zero": "ok",
        "false": "fail",
        "broken": "fail",
        "asynchronous": "fail",
    }
    assert answer.json()["reasons"] == {
        "false": "false",
        "broken": "LookupError",
        "asynchronous": "not a synchronous check",
    }


async def test_livez_knows_the_kernel_and_no_database(app: Any, manager: FakeManager) -> None:
    manager.connections = [connection("a", State.FAILED)]
    manager.closing = True
    answer = await ask(app, "/livez")
    assert (answer.status, answer.json()["status"]) == (200, "healthy")
    manager.alive = False
    answer = await ask(app, "/livez")
    assert (answer.status, answer.json()["reasons"]) == (503, {"kernel": "no heartbeat"})


async def test_startupz_waits_for_every_actor_to_leave_init(manager: FakeManager) -> None:
    app = create_app(manager)
    manager.connections = [connection("a", State.FAILED), connection("b", State.INIT)]
    manager.started = False
    answer = await ask(app, "/startupz")
    assert answer.status == 503
    assert answer.json() == {
        "status": "unhealthy",
        "checks": {"a": "ok", "b": "fail"},
        "reasons": {"b": "init"},
    }
    manager.connections = []
    answer = await ask(app, "/startupz")
    assert (answer.status, answer.json()["reasons"]) == (503, {"kernel": "starting"})
    manager.started = True
    manager.connections = [connection("a", State.CONNECTING)]
    assert (await ask(app, "/startupz")).status == 200


async def test_a_probe_over_a_thousand_connections_takes_under_five_milliseconds() -> None:
    """An order of magnitude, so that nothing expensive slips in: the best of several tries."""
    app = create_app(FakeManager([connection(f"c{n}") for n in range(1000)]))
    best = 1.0
    for _ in range(10):
        begun = time.perf_counter()
        await ask(app, "/readyz")
        best = min(best, time.perf_counter() - begun)
    assert best < 0.005


# -- pages


async def test_connections_are_the_statuses_in_full(app: Any, manager: FakeManager) -> None:
    manager.connections = [connection("a", State.FAILED, reason=FailureReason.DNS, error="no")]
    answer = await ask(app, "/connections")
    assert answer.json() == [
        {
            "name": "a",
            "backend": "local",
            "required": True,
            "state": "failed",
            "since": 1.0,
            "generation": 0,
            "attempt": 0,
            "reason": "dns",
            "error": "no",
            "last_ping_seconds": None,
            "next_attempt_at": None,
        }
    ]


async def test_the_index_escapes_all_it_shows(app: Any, manager: FakeManager) -> None:
    evil = "<script>alert('x')</script>"
    manager.connections = [connection("a", State.FAILED, error=evil, backend='"&')]
    answer = await ask(app, "/", root_path="/<x>")
    page = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert evil not in page
    assert "&lt;script&gt;" in page
    assert "&quot;&amp;" in page
    assert 'href="/&lt;x&gt;/readyz"' in page


@pytest.mark.parametrize("path", ["/", "/connections", "/events"])
@pytest.mark.parametrize(
    ("pages", "server", "status"),
    [
        (True, ("10.0.0.1", 80), 200),
        (False, ("127.0.0.1", 80), 403),
        (None, ("127.0.0.1", 80), 200),
        (None, ("::1", 80), 200),
        (None, ("10.0.0.1", 80), 403),
        (None, None, 403),
        (None, ("/run/app.sock", None), 403),
    ],
)
async def test_pages_are_shown_off_loopback_only_on_demand(
    manager: FakeManager, path: str, pages: bool | None, server: Any, status: int
) -> None:
    answer = await ask(create_app(manager, pages=pages), path, "HEAD", server=server)
    assert answer.status == status
    if status == 403:
        answer = await ask(create_app(manager, pages=pages), path, server=server)
        assert b"pages = true" in answer.body
        assert b"local" not in answer.body.replace(b"loopback", b"")


async def test_probes_and_metrics_are_not_pages(manager: FakeManager) -> None:
    app = create_app(manager, pages=False)
    for path in ("/livez", "/readyz", "/startupz", "/metrics"):
        assert (await ask(app, path)).status == 200


# -- metrics


async def test_metrics_come_in_the_format_that_is_asked_for(app: Any) -> None:
    plain = await ask(app, "/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.body == b"up 1\n"
    headers = {"accept": "application/openmetrics-text"}
    openmetrics = await ask(app, "/metrics", headers=headers)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.body == b"# EOF\n"
    assert openmetrics.headers["vary"] == "Accept"


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text; version=1.0.0", True),
        ("Application/OpenMetrics-Text", True),
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=many", False),
        ("application/openmetrics-text;version=9.9", False),
        (";;,=,q=1", False),
    ],
)
def test_negotiation(accept: str, openmetrics: bool) -> None:
    assert wants_openmetrics(accept) is openmetrics


async def test_a_failing_page_is_a_500_that_tells_strangers_nothing(
    app: Any, manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.metrics.broken = True
    answer = await ask(app, "/metrics")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "/metrics failed" in caplog.text


# -- HTTP


@pytest.mark.parametrize("path", ["/", "/connections", "/livez", "/readyz", "/metrics", "/nope"])
async def test_head_is_get_without_the_body_and_nothing_is_ever_stored(app: Any, path: str) -> None:
    got, head = await ask(app, path), await ask(app, path, "HEAD")
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")
    assert head.headers["content-length"] == str(len(got.body))
    assert head.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_405_with_what_is_allowed(app: Any, method: str) -> None:
    answer = await ask(app, "/readyz", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/nope", "/readyz/", "//", "/READYZ", "/metrics/../readyz"])
async def test_unknown_paths_are_404(app: Any, path: str) -> None:
    assert (await ask(app, path)).status == 404


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("/ops", "/ops/readyz"),  # the path holds the mount's
        ("/ops/", "/ops/readyz"),
        ("/ops", "/readyz"),  # the path does not
        ("", "/readyz"),
        ("/readyz", "/readyz/readyz"),
    ],
)
async def test_it_works_under_any_mount(app: Any, root_path: str, path: str) -> None:
    assert (await ask(app, path, root_path=root_path)).json()["status"] == "healthy"


async def test_the_mounts_own_path_is_the_index(app: Any) -> None:
    answer = await ask(app, "/ops", root_path="/ops")
    assert 'href="/ops/readyz"' in answer.body.decode()


async def test_lifespan_is_answered_and_websockets_are_refused(app: Any) -> None:
    sent: list[Any] = []
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(incoming, {"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
    with pytest.raises(ValueError, match="not a protocol"):
        await app({"type": "smtp"}, receive, send)


def test_it_runs_on_asyncio(app: Any) -> None:
    assert asyncio.run(ask(app, "/readyz")).status == 200
    assert trio.run(ask, app, "/metrics").status == 200


# -- addresses


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::1%lo", True),
        ("localhost", True),
        ("app.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_urls_have_brackets_where_they_need_them() -> None:
    assert url("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert url("::1", 80) == "http://[::1]:80"
