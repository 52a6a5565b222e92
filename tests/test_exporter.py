"""The exporter on real sockets: what clients may do to it, and how it ends."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
import trio
from leftovers import open_files, threads

from moorings.errors import SettingsError
from moorings.runtime import exporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
PATIENCE = 10.0
"""Seconds after which a test has failed; none waits that long when all is well."""


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"hello")


async def reply(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(app: Any = hello) -> AsyncIterator[int]:
    """The port of a server that is cancelled at the end, and has then to end in time."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(exporter.serve, app, HOST, 0)
            yield int(url.rpartition(":")[2])
            nursery.cancel_scope.cancel()


def get(port: int, path: str = "/", method: str = "GET", body: bytes | None = None) -> Any:
    with closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE)) as client:
        client.request(method, path, body=body)
        response = client.getresponse()
        return response.status, response.read(), response.headers


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream(HOST, port)


async def read_all(stream: trio.SocketStream) -> bytes:
    """Everything until the server closes; a reset is a way to close."""
    received = bytearray()
    try:
        async for chunk in stream:
            received += chunk
    except trio.BrokenResourceError:
        pass
    return bytes(received)


# -- serving


async def test_it_answers_and_hides_what_it_is_made_of() -> None:
    async with serving() as port:
        status, body, headers = await trio.to_thread.run_sync(get, port)
    assert (status, body) == (200, b"hello")
    assert headers["server"] is None


async def test_many_scrapes_at_once_are_all_answered() -> None:
    answers: list[Any] = []

    async def scrape() -> None:
        answers.append((await trio.to_thread.run_sync(get, port))[:2])

    async with serving() as port, trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(scrape)
    assert answers == [(200, b"hello")] * 30


async def test_one_connection_takes_request_after_request() -> None:
    async with serving() as port, await connect(port) as stream:
        for _ in range(3):
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while not received.endswith(b"hello"):
                received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 200")


async def test_an_app_that_breaks_is_a_500_and_one_log_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    async with serving(broken) as port:
        status, _, _ = await trio.to_thread.run_sync(get, port)
    assert status == 500
    assert [record.name for record in caplog.records] == ["moorings.exporter"]


async def test_a_fault_of_the_server_itself_costs_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hypercorn.trio.tcp_server import TCPServer

    run = TCPServer.run
    faults = [LookupError()]

    async def faulty(self: Any) -> None:
        if faults:
            raise faults.pop()
        await run(self)

    monkeypatch.setattr(TCPServer, "run", faulty)
    async with serving() as port:
        async with await connect(port) as stream:
            assert await read_all(stream) == b""
        assert (await trio.to_thread.run_sync(get, port))[0] == 200
    assert "a connection failed" in caplog.text


async def test_good_requests_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serving() as port:
        await trio.to_thread.run_sync(get, port)
    assert [r for r in caplog.records if not r.name.startswith("asyncio")] == []


async def test_several_addresses_of_one_name_are_all_told() -> None:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(exporter.serve, hello, "localhost", 0)
            assert all(url.startswith(("http://127.0.0.1:", "http://[::1]:")) for url in urls)
            nursery.cancel_scope.cancel()


# -- clients that misbehave


async def test_a_body_is_refused_before_it_is_read() -> None:
    async with serving() as port:
        status, _, headers = await trio.to_thread.run_sync(get, port, "/", "POST", b"x" * 100)
        assert (status, headers["connection"]) == (413, "close")
        async with await connect(port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nx")
            assert (await read_all(stream)).startswith(b"HTTP/1.1 413")
            head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with await connect(port) as stream:
            await stream.send_all(head + b"1\r\nx\r\n" * 1000)
            assert (await read_all(stream)).startswith(b"HTTP/1.1 413")


async def test_a_client_may_close_its_side_and_is_still_answered() -> None:
    async with serving() as port, await connect(port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.send_eof()
        received = await stream.receive_some()
        while not received.endswith(b"hello"):
            received += await stream.receive_some()


async def test_an_endless_head_is_cut_off() -> None:
    async with serving() as port, await connect(port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nX: " + b"x" * exporter.MAX_HEAD)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 431")


async def test_nonsense_is_a_400() -> None:
    async with serving() as port, await connect(port) as stream:
        await stream.send_all(b"\x16\x03\x01 not http\r\n\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHos"])
async def test_a_client_that_never_finishes_its_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(exporter, "KEEP_ALIVE", 0.05)
    async with serving() as port, await connect(port) as stream:
        if sent:
            await stream.send_all(sent)
        assert await read_all(stream) == b""


BIG = b"x" * (64 * 1024 * 1024)
"""More than the kernel buffers for a connection."""


async def big(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, BIG)


async def _stuck_client(port: int) -> trio.SocketStream:
    stream = await connect(port)
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await stream.receive_some(1)  # the answer has begun
    return stream


async def test_a_client_that_never_reads_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "WRITE_TIMEOUT", 0.1)
    ended = trio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await big(scope, receive, send)
        finally:
            ended.set()

    async with serving(watched) as port:
        stream = await _stuck_client(port)
        await ended.wait()
        status, _, _ = await trio.to_thread.run_sync(get, port, "/", "HEAD")
        assert status == 200
        await stream.aclose()


async def test_beyond_the_limit_connections_are_refused_and_later_ones_welcome(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporter, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(exporter, "GRACE", 0.05)
    async with serving() as port:
        first, second = await connect(port), await connect(port)
        third, fourth = await connect(port), await connect(port)
        assert [await read_all(third), await read_all(fourth)] == [b"", b""]
        assert caplog.text.count("more than 2 connections") == 1
        for stream in (first, second, third, fourth):
            await stream.aclose()
        status = 0
        while status != 200:
            try:
                status, _, _ = await trio.to_thread.run_sync(get, port)
            except OSError:  # the server has not yet seen the others leave
                await trio.lowlevel.checkpoint()


# -- ending


async def test_cancelled_it_finishes_the_answer_under_way() -> None:
    asked, go = trio.Event(), trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await go.wait()
        await reply(send, b"done")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = trio.CancelScope()

            async def run(*, task_status: Any) -> None:
                with server:
                    await exporter.serve(slow, HOST, 0, task_status=task_status)

            [url] = await nursery.start(run)
            async with await connect(int(url.rpartition(":")[2])) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await asked.wait()
                server.cancel()
                await trio.testing.wait_all_tasks_blocked(0.01)
                with pytest.raises(OSError, match="connect"):
                    await connect(int(url.rpartition(":")[2]))
                go.set()
                answer = await read_all(stream)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"done")


async def test_an_answer_that_takes_longer_than_the_grace_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter, "GRACE", 0.05)
    asked = trio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await trio.sleep_forever()

    async with serving(endless) as port:
        stream = await connect(port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
    await stream.aclose()


@pytest.mark.parametrize("kind", ["silent", "half a request", "never reads", "pipelines"])
async def test_no_client_can_hold_up_the_end(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(exporter, "GRACE", 0.05)
    async with serving(big) as port:
        match kind:
            case "silent":
                stream = await connect(port)
            case "half a request":
                stream = await connect(port)
                await stream.send_all(b"GET / HTTP/1.1\r\nHos")
            case "never reads":
                stream = await _stuck_client(port)
            case _:
                stream = await connect(port)
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                await stream.receive_some(1)
    await stream.aclose()


async def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "GRACE", 0.05)
    async with serving() as port:  # what the first use brings in for good is not a leak
        await trio.to_thread.run_sync(get, port)

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    before = open_files(), threads(), tasks()
    for _ in range(3):
        async with serving(big) as port:
            streams = [await connect(port), await _stuck_client(port)]
            await trio.to_thread.run_sync(get, port, "/", "HEAD")
        for stream in streams:
            await stream.aclose()
    # Fewer files are those of an earlier test, whose last thread just ended.
    assert len(open_files()) <= len(before[0])
    assert threads() <= before[1]
    assert tasks() == before[2]


async def test_cancelled_before_it_serves_it_leaves_nothing_open() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await exporter.serve(hello, HOST, 0)
    assert scope.cancelled_caught


async def test_its_port_is_free_again_at_once() -> None:
    async with serving() as port:
        await trio.to_thread.run_sync(get, port)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            assert await nursery.start(exporter.serve, hello, HOST, port) == (
                f"http://{HOST}:{port}",
            )
            nursery.cancel_scope.cancel()


# -- what cannot be bound


async def test_a_taken_port_is_a_settings_error_with_the_key_and_the_cure() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} is taken") as caught:
            await exporter.serve(hello, HOST, port)
    [problem] = caught.value.problems
    assert problem.key == "runtime.exporter.port"
    assert "another port" in problem.cure


@pytest.mark.parametrize(
    ("host", "port", "key"),
    [
        ("192.0.2.1", 0, "runtime.exporter.host"),  # TEST-NET-1: nobody's address
        ("no such host", 0, "runtime.exporter.host"),
        (HOST, 65536, "runtime.exporter.port"),
        (HOST, -1, "runtime.exporter.port"),
    ],
)
async def test_what_cannot_be_bound_is_a_settings_error(host: str, port: int, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        await exporter.serve(hello, host, port)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_a_port_that_this_user_may_not_bind_says_so() -> None:
    problem = exporter._problem(HOST, 80, PermissionError(13, "Permission denied"))
    assert problem.key == "runtime.exporter.port"
    assert "may not bind 127.0.0.1:80" in problem.problem


def test_importing_it_imports_no_server() -> None:
    program = (
        "import sys, moorings.runtime.exporter, moorings.runtime.http\n"
        "print([m for m in ('hypercorn', 'h11', 'h2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
