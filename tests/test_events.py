"""`/events`: what readers are told, on trio and on asyncio, and how their streams end."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import urllib.request
from collections import deque
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import pytest
import trio
from served import FakeManager, connection

from moorings.errors import FailureReason
from moorings.runtime import exporter, http_events, slices
from moorings.runtime.hosts import HostEvent, clock, first_of, give_up_after, pause
from moorings.runtime.http import create_app
from moorings.runtime.state import Event, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from processes import Start

PATIENCE = 20.0
"""Seconds after which a test has failed; none waits that long when all is well."""


class Reader:
    """One client of `/events`: what it has received, as events; it may stop reading, or leave."""

    def __init__(self, app: Any, method: str = "GET") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.reads = True
        self.ended = False
        self.held = 0  # bytes that were given to the server and not yet taken off it
        self._app, self._method = app, method
        self._buffer = ""
        self._events: deque[tuple[str, Any]] = deque()
        self._news, self._left = HostEvent(), HostEvent()

    async def run(self) -> None:
        scope = {
            "type": "http",
            "method": self._method,
            "path": "/events",
            "headers": [],
            "server": ("127.0.0.1", 9464),
        }
        try:
            await self._app(scope, self._receive, self._send)
        finally:
            self.ended = True
            self._wake()

    async def _receive(self) -> Any:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        if not self.reads:
            self.held += len(message["body"])
            await HostEvent().wait()
        self._buffer += message["body"].decode()
        *whole, self._buffer = self._buffer.split("\n\n")
        self._events.extend(map(parsed, whole))
        self.complete = not message.get("more_body", False)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, HostEvent()
        news.set()

    def leave(self) -> None:
        self._left.set()

    async def next(self, *kinds: str) -> tuple[str, Any]:
        """The next event; of one of these kinds, if any are given."""
        while True:
            while not self._events:
                assert not self.ended, "the stream has ended"
                await self._news.wait()
            kind, data = self._events.popleft()
            if not kinds or kind in kinds:
                return kind, data

    async def end(self) -> None:
        while not self.ended:
            await self._news.wait()


def parsed(text: str) -> tuple[str, Any]:
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    return lines["event"], json.loads(lines["data"])


@asynccontextmanager
async def reading(app: Any) -> AsyncIterator[Reader]:
    """A reader in a task of its own, of either world; what it was doing is cancelled at the end."""
    reader = Reader(app)
    if trio.lowlevel.in_trio_task():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run)
            yield reader
            nursery.cancel_scope.cancel()
        return
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reader.run())
        yield reader
        task.cancel()


def on(host: str, function: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run a test there, on trio in virtual time."""

    async def bounded() -> None:
        over = False

        async def whole() -> None:
            nonlocal over
            await function(*args)
            over = True

        await give_up_after(PATIENCE if host == "asyncio" else 10_000, whole)
        assert over, "it took too long"

    if host == "trio":
        trio.run(bounded, clock=trio.testing.MockClock(autojump_threshold=0))
    else:
        asyncio.run(bounded())


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs an async function on each of the two hosts."""
    return partial(on, request.param)


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager([connection("a"), connection("b", State.CONNECTING, attempt=1)])


# -- what is told


def test_a_reader_first_learns_all_and_then_what_changes(run: Any, manager: FakeManager) -> None:
    async def main() -> None:
        async with reading(create_app(manager)) as reader:
            kind, told = await reader.next()
            assert kind == "snapshot"
            assert [row["name"] for row in told["connections"]] == ["a", "b"]
            assert told["runtime"] == "moorings"
            assert told["readiness"]["status"] == "unhealthy"
            manager.step(1, Event.ESTABLISHED, since=7.0)
            kind, told = await reader.next()
            assert kind == "update"
            [row] = told["connections"]
            assert (row["name"], row["state"]) == ("b", "ready")
            assert row["steps"] == [
                {
                    "at": 7.0,
                    "source": "connecting",
                    "event": "established",
                    "target": "ready",
                    "reason": None,
                    "error": None,
                }
            ]
            assert told["readiness"]["status"] == "healthy"
            assert (reader.status, reader.headers["cache-control"]) == (200, "no-store")
            assert reader.headers["content-type"].startswith("text/event-stream")

    run(main)


def test_a_row_is_what_connections_shows_and_the_steps(run: Any, manager: FakeManager) -> None:
    async def main() -> None:
        app = create_app(manager)
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/connections", "headers": []}
        await app(scope | {"server": ("::1", 1)}, None, send)
        async with reading(app) as reader:
            _, told = await reader.next()
            rows = [{k: v for k, v in row.items() if k != "steps"} for row in told["connections"]]
            assert rows == json.loads(sent[1]["body"])

    run(main)


def test_a_new_ping_or_a_failing_check_is_told_with_the_next_heartbeat(
    run: Any, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wake nobody: a ping every few seconds is no change of state."""
    monkeypatch.setattr(http_events, "HEARTBEAT_EVERY", 0.2)

    async def main() -> None:
        manager.connections.pop()
        async with reading(create_app(manager)) as reader:
            await reader.next("snapshot")
            assert (await reader.next())[0] == "heartbeat"
            manager.connections[0] = connection("a", last_ping_seconds=0.001)
            _, told = await reader.next("update")
            assert told["connections"][0]["last_ping_seconds"] == 0.001
            assert "readiness" not in told
            manager.checks["disk"] = lambda: False
            _, told = await reader.next("update")
            assert (told["connections"], told["readiness"]["reasons"]) == ([], {"disk": "false"})

    run(main)


def test_other_connections_are_a_new_snapshot(run: Any, manager: FakeManager) -> None:
    """After a reload nothing that is gone is left over, and the order is the settings' own."""

    async def main() -> None:
        async with reading(create_app(manager)) as reader:
            await reader.next("snapshot")
            manager.connections[:] = [connection("c"), manager.connections[0]]
            manager.changed()
            _, told = await reader.next("snapshot")
            assert [row["name"] for row in told["connections"]] == ["c", "a"]

    run(main)


def test_head_opens_no_stream(run: Any, manager: FakeManager) -> None:
    async def main() -> None:
        reader = Reader(create_app(manager), "HEAD")
        await reader.run()
        assert (reader.status, reader.complete) == (200, True)

    run(main)


# -- pace


def test_changes_come_together_and_the_newest_wins(run: Any, manager: FakeManager) -> None:
    async def main() -> None:
        async with reading(create_app(manager)) as reader:
            await reader.next("snapshot")
            for attempt in range(2, 50):
                manager.connections[1] = connection("b", State.CONNECTING, attempt=attempt)
                manager.changed()
            manager.step(1, Event.ESTABLISHED)
            _, told = await reader.next("update")
            assert told["connections"][0]["state"] == "ready"

    run(main)


async def test_a_storm_of_changes_is_told_ten_times_a_second_at_most(
    autojump_clock: Any, manager: FakeManager
) -> None:
    async with reading(create_app(manager)) as reader:
        await reader.next("snapshot")
        began, events = trio.current_time(), 0
        while trio.current_time() < began + 10:
            manager.connections[1] = connection("b", State.CONNECTING, attempt=events)
            manager.changed()
            events += (await reader.next())[0] == "update"
        assert events <= 10 / http_events.GAP + 1


def test_a_reader_that_does_not_read_holds_one_event_and_is_given_up(
    run: Any, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream is left unfinished, so that the server closes it."""
    monkeypatch.setattr(http_events, "SEND_TIMEOUT", 0.2)

    async def main() -> None:
        app = create_app(manager)
        async with reading(app) as reader:
            await reader.next("snapshot")
            reader.reads = False
            for number in range(1000):
                manager.connections[0] = connection("a", error="x" * 1000, attempt=number)
                manager.changed()
                await pause(0)
            await reader.end()
            assert 0 < reader.held < 3000
            assert not reader.complete
        async with reading(app) as another:
            assert (await another.next())[0] == "snapshot"

    run(main)


def test_a_thousand_connections_hold_the_loop_for_moments_only(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the event goes in slices: others have their turn between them."""
    monkeypatch.setattr(slices, "SLICE", 0.0)
    manager = FakeManager([connection(f"c{n}") for n in range(1000)])
    turns = 0

    async def main() -> None:
        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await pause(0)

        async def read() -> None:
            async with reading(create_app(manager)) as reader:
                _, told = await reader.next("snapshot")
                assert len(told["connections"]) == 1000

        await first_of(read, count)

    run(main)
    assert turns > 100


# -- the end


def test_the_managers_end_is_the_streams_end_after_the_last_word(
    run: Any, manager: FakeManager
) -> None:
    async def main() -> None:
        manager.connections.pop()
        async with reading(create_app(manager)) as reader:
            await reader.next("snapshot")
            manager.closed = True
            manager.step(0, Event.STOP)
            _, told = await reader.next("update")
            assert told["connections"][0]["state"] == "stopped"
            assert await reader.next() == ("end", {"why": "closed", "retry": http_events.RETRY})
            await reader.end()
            assert reader.complete

    run(main)


class Server:
    """Uvicorn's, as its handler of signals shows it."""

    should_exit = False

    def handle_exit(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Any:
    """A server that handles SIGTERM."""
    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    yield server
    signal.signal(signal.SIGTERM, before)


def test_a_server_that_wants_to_stop_is_not_held_up(
    run: Any, manager: FakeManager, server: Server
) -> None:
    """Uvicorn waits for every answer before it ends the lifespan, and with it the manager."""

    async def main() -> None:
        server.should_exit = False
        async with reading(create_app(manager)) as reader:
            await reader.next("snapshot")
            server.should_exit = True
            began = clock()
            _, told = await reader.next("end")
            assert told["why"] == "leaving"
            await reader.end()
            assert reader.complete
            assert clock() - began < 2.0

    run(main)


def test_a_reader_that_leaves_takes_its_stream_along(run: Any, manager: FakeManager) -> None:
    async def main() -> None:
        async with reading(create_app(manager)) as reader:
            await reader.next("snapshot")
            reader.leave()
            await reader.end()
            assert not reader.complete

    run(main)


def test_a_cancelled_stream_leaves_no_task_behind(run: Any, manager: FakeManager) -> None:
    def tasks() -> int:
        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_statistics().tasks_living
        return len(asyncio.all_tasks())

    async def main() -> None:
        before = tasks()
        for _ in range(3):
            async with reading(create_app(manager)) as reader:
                await reader.next("snapshot")
        await pause(0)
        assert tasks() == before
        gc.collect()

    run(main)


def test_an_error_under_a_stream_is_raised_as_it_is(run: Any, manager: FakeManager) -> None:
    async def main() -> None:
        async def broken(_: Any) -> None:
            raise LookupError("the server's")

        reader = Reader(create_app(manager))
        reader._send = broken  # type: ignore[method-assign]
        with pytest.raises(LookupError, match="the server's"):
            await reader.run()

        async def breaks_later(message: Any) -> None:
            if message["type"] != "http.response.start":
                raise LookupError("the server's")

        reader._send = breaks_later  # type: ignore[method-assign]
        with pytest.raises(LookupError, match="the server's"):
            await reader.run()

    run(main)


async def test_a_stream_is_renewed_now_and_then(autojump_clock: Any, manager: FakeManager) -> None:
    """So that none outlives what a proxy or a lost peer left of it."""
    async with reading(create_app(manager)) as reader:
        began = trio.current_time()
        _, told = await reader.next("end")
        assert told == {"why": "renewed", "retry": 0.0}
        lived = trio.current_time() - began
        assert http_events.LIFETIME <= lived <= http_events.LIFETIME + 3


def test_beyond_the_bound_one_snapshot_is_given_and_a_later_reader_is_welcome(
    run: Any, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_events, "STREAMS", 1)
    monkeypatch.setattr(http_events, "HEARTBEAT_EVERY", 0.2)

    async def main() -> None:
        app = create_app(manager)
        async with reading(app) as first:
            await first.next("snapshot")
            async with reading(app) as second:
                await second.next("snapshot")
                end = {"why": "busy", "retry": http_events.BUSY_RETRY}
                assert await second.next() == ("end", end)
                await second.end()
            first.leave()
            await first.end()
        async with reading(app) as third:
            await third.next("snapshot")
            assert (await third.next())[0] == "heartbeat"

    run(main)


# -- on real sockets


async def test_clients_that_leave_or_never_read_make_room_for_others(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter tells of the one, and gives the other up."""
    monkeypatch.setattr(http_events, "STREAMS", 2)
    monkeypatch.setattr(http_events, "HEARTBEAT_EVERY", 0.2)
    monkeypatch.setattr(exporter, "WRITE_TIMEOUT", 0.2)
    request = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"

    async def connect() -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(request)
        await stream.receive_some(1)  # the answer has begun
        return stream

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(exporter.serve, create_app(manager), "127.0.0.1", 0)
            port = int(url.rpartition(":")[2])
            leaves, never_reads = await connect(), await connect()
            await leaves.aclose()
            manager.connections[0] = connection("a", error="x" * 30_000_000)
            manager.changed()
            kind = ""
            while kind != "heartbeat":  # a stream of its own, and not the one snapshot
                manager.connections[0] = connection("a")
                async with await connect() as third:
                    kind = await _second_event(third)
            await never_reads.aclose()
            nursery.cancel_scope.cancel()


async def test_http2_connections_are_bounded_as_well(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not kept where nothing passes, and a window of nothing holds no answers for ever."""
    manager.connections *= 200  # more than is buffered without waiting for the window
    monkeypatch.setattr(exporter, "IDLE", 0.3)
    monkeypatch.setattr(exporter, "WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr(exporter, "GRACE", 0.1)
    config = h2.config.H2Configuration(client_side=True)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(exporter.serve, create_app(manager), "127.0.0.1", 0)
            for asks, pings in ((False, False), (True, True)):
                client = h2.connection.H2Connection(config)
                client.local_settings.initial_window_size = 0
                client.initiate_connection()
                if asks:
                    head = {":method": "GET", ":path": "/", ":scheme": "http", ":authority": "x"}
                    client.send_headers(1, list(head.items()), end_stream=True)
                stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
                async with stream:
                    with suppress(trio.BrokenResourceError):
                        while True:
                            await stream.send_all(client.data_to_send())
                            with trio.move_on_after(0.1 if pings else PATIENCE):
                                if not await stream.receive_some():
                                    break
                            if pings:
                                client.ping(b"x" * 8)
            nursery.cancel_scope.cancel()


async def _second_event(stream: trio.SocketStream) -> str:
    received = b""
    while received.count(b"event: ") < 2:
        received += await stream.receive_some()
    return received.split(b"event: ")[2].split(b"\n")[0].decode()


# -- under `moorings run`


@pytest.mark.parametrize("host", ["trio", "asyncio"])
def test_a_programs_end_is_told_and_does_not_wait_for_readers(start: Start, host: str) -> None:
    """The connections' last states, then the end; within the exporter's grace, which it spares."""
    program = start("run", "--host", host)
    program.becomes_ready()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(program.url() + "/events", timeout=PATIENCE) as answer:
        events = whole_events(answer)
        kind, told = next(events)
        assert (kind, told["connections"][0]["state"]) == ("snapshot", "ready")
        program.signal(signal.SIGTERM)
        *rest, (kind, end) = events
    told = [row["state"] for _, data in rest for row in data.get("connections", ())]
    assert told[-1] == "stopped"
    # Said, and not cut off: what is still open when the exporter's grace is over gets no last word.
    assert (kind, end["why"]) == ("end", "closed")
    assert program.ended() == 0
    assert "Traceback" not in program.stderr


def whole_events(lines: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    text = ""
    for line in lines:
        if line.strip():
            text += line.decode()
        else:
            yield parsed(text)
            text = ""


# -- what is never told


def test_what_is_told_is_the_redacted_text(run: Any, manager: FakeManager) -> None:
    """Errors arrive redacted; and an error's text cannot end an event early."""
    evil = "line\n\nevent: snapshot\ndata: {}\r\n\r\n</script>"
    manager.connections = [connection("a", State.FAILED, reason=FailureReason.NETWORK, error=evil)]

    async def main() -> None:
        async with reading(create_app(manager)) as reader:
            _, told = await reader.next()
            assert told["connections"][0]["error"] == evil

    run(main)
