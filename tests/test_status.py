"""`moorings status`: what is running, once and followed, on a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from mongod import free_port
from processes import SECONDS, clean_environ
from served import connection
from settings_files import settings, write

from moorings.runtime import asking, following
from moorings.runtime.feed import row
from moorings.runtime.following import Back, Follower, Gone, Removed, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cutting import Cutting
    from processes import Call, Program, Start

LOCAL = '[default.database.documents.main]\nbackend = "local"\n'

# -- once


def test_status_reads_a_running_program(start: Start, call: Call) -> None:
    program = start("run")
    program.becomes_ready()
    asked = call("status", "--url", program.url())
    assert asked.ended() == 0
    header, row = asked.stdout.splitlines()
    assert header.startswith("name")
    assert row.split()[:3] == ["default_local", "local", "ready"]
    as_json = call("status", "--url", program.url(), "--json")
    assert as_json.ended() == 0
    assert json.loads(as_json.stdout)[0]["state"] == "ready"


def test_status_finds_the_program_by_its_settings(start: Start, call: Call, tmp_path: Path) -> None:
    """Host and port are those of the settings; where it serves everywhere, it serves here."""
    program = start("run")
    port = program.url().rpartition(":")[2]
    (tmp_path / "settings.toml").write_text(
        f'{LOCAL}[default.runtime.exporter]\nhost = "0.0.0.0"\n'
    )
    asked = call("status", MOORINGS_RUNTIME__EXPORTER__PORT=port)
    assert asked.ended() == 0, asked.stderr
    assert "default_local" in asked.stdout


def test_status_of_nobody_is_69(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for watch in ([], ["--watch"]):
        asked = call("status", "--url", url, *watch)
        assert (asked.ended(), asked.stdout) == (69, "")
        assert f"{url} does not answer: [Errno 111] Connection refused" in asked.stderr


@pytest.fixture
def stranger() -> Iterator[Callable[..., str]]:
    """Serves one body, whatever is asked for, or at a path alone; gives its URL."""
    servers = []

    def serve(body: bytes, path: str = "", status: int = 200) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path.startswith(path) else 404)
                self.send_header("content-type", "text/plain")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = HTTPServer(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"a": 1}', b'[{"name": "x"}]', b"7"])
def test_status_of_something_else_is_69(
    call: Call, stranger: Callable[[bytes], str], body: bytes
) -> None:
    url = stranger(body)
    for watch in ([], ["--watch"]):
        asked = call("status", "--url", url, *watch)
        assert asked.ended() == 69
        assert "what serves there is not Moorings" in asked.stderr


def test_where_pages_are_not_shown_it_passes_on_how_to_show_them(
    call: Call, stranger: Callable[..., str]
) -> None:
    url = stranger(b"Set pages = true", status=403)
    for watch in ([], ["--watch"]):
        asked = call("status", "--url", url, *watch)
        assert asked.ended() == 69
        assert "status 403, Set pages = true" in asked.stderr


@pytest.mark.parametrize(
    ("served", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[", "IncompleteRead"),
        (b"no such protocol\r\n\r\n", "no such protocol"),
    ],
)
def test_an_answer_that_breaks_off_is_69(call: Call, served: bytes, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                client, _address = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(served)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            for watch in ([], ["--watch"]):
                asked = call("status", "--url", url, *watch)
                assert asked.ended() == 69
                assert why in asked.stderr or "not Moorings" in asked.stderr
        finally:
            thread.join(SECONDS)


# -- followed: the changes


class Script:
    """What a program would tell: streams of events, one after another, or an error.

    A number among the events is how long it takes to the next, in seconds.
    """

    def __init__(self, clock: Clock, *streams: Any) -> None:
        self.clock = clock
        self.streams = list(streams)

    def events(self, url: str, polling: object) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self.streams:
            raise Over
        stream = self.streams.pop(0)
        if isinstance(stream, Exception):
            raise stream
        for event in stream:
            if isinstance(event, float):
                self.clock.now += event
            else:
                yield event


class Over(Exception):
    """The script has ended."""


def snapshot(*names: str) -> tuple[str, dict[str, Any]]:
    return "snapshot", {"now": 1.0, "connections": [row(connection(name), ()) for name in names]}


def end(why: str) -> tuple[str, dict[str, Any]]:
    return "end", {"why": why, "retry": 0.5}


HEARTBEAT = ("heartbeat", {"now": 2.0})
REFUSED = asking.UnansweredError("refused")


class Clock:
    """Time as the follower sees it: it passes while it waits, and while a stream lives."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.0


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The changes of a scripted program, and how long was waited between its streams."""

    def follow(*streams: Any) -> tuple[list[Any], list[float]]:
        clock = Clock()
        monkeypatch.setattr(following, "events", Script(clock, *streams).events)
        monkeypatch.setattr(following, "time", clock)
        changes = []
        with pytest.raises(Over):
            for change in Follower("http://x", lambda: None).changes():
                changes.append(change)  # noqa: PERF402 - they are kept when it raises
        return changes, clock.waits

    return follow


def told(*names: str) -> list[Told]:
    return [Told(1.0, connection(name)) for name in names]


def test_a_program_that_is_gone_and_back_tells_all_it_has_again(followed: Any) -> None:
    changes, waits = followed(
        [snapshot("a", "b"), 9.0], REFUSED, REFUSED, [snapshot("a"), HEARTBEAT, 9.0]
    )
    gone = changes.pop(2)
    assert (type(gone), gone.why) == (Gone, "refused")
    assert changes == [*told("a", "b"), Back(1.0), *told("a")]
    assert waits == [0.0, 1.0, 1.0, 0.0]


def test_what_a_reload_removed_is_told(followed: Any) -> None:
    changes, _ = followed([snapshot("a", "b"), snapshot("b")])
    assert changes == [*told("a", "b"), Removed(1.0, "a"), *told("b")]


@pytest.mark.parametrize("why", ["renewed", "busy"])
def test_a_stream_that_ends_for_the_readers_sake_is_no_end(followed: Any, why: str) -> None:
    changes, waits = followed([snapshot("a"), end(why)], [snapshot("a"), 9.0])
    assert changes == told("a") * 2
    assert waits == [0.5, 0.0]


@pytest.mark.parametrize(
    ("why", "said"), [("closed", "it has stopped"), ("leaving", "it is stopping")]
)
def test_an_end_in_order_is_told_as_such_once(followed: Any, why: str, said: str) -> None:
    changes, _ = followed([snapshot("a"), end(why)], REFUSED, REFUSED)
    assert [change.why for change in changes if isinstance(change, Gone)] == [said]


def test_empty_answers_are_not_asked_for_in_a_frenzy(followed: Any) -> None:
    changes, waits = followed([snapshot("a"), 9.0], [], [], [])
    assert changes[-1].why == "its answer is empty"
    assert waits == [0.0, 1.0, 1.0, 1.0]


def test_streams_that_are_cut_off_young_are_not_asked_for_in_a_frenzy(followed: Any) -> None:
    """Nor do they mean that the program is gone; one that lives, or ends in order, resets it."""
    young, old = [snapshot("a"), 0.1], [snapshot("a"), 2.0, HEARTBEAT, 4.0]
    changes, waits = followed(*[young] * 6, old, *[young] * 2, [snapshot("a"), end("busy")], young)
    assert changes == told("a") * 11
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 0.0, 1.0, 2.0, 0.5, 1.0]


def test_one_that_never_answered_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "events", Script(Clock(), REFUSED).events)
    with pytest.raises(asking.UnansweredError):
        next(Follower("http://x", lambda: None).changes())


# -- followed: real programs


@pytest.fixture
def flaky(start: Start, tmp_path: Path) -> Callable[[], Program]:
    """Starts a program, on a port that stays, whose connection fails on SIGUSR1."""
    port = str(free_port())
    (tmp_path / "app.py").write_text(
        "import signal, trio\n"
        "async def main(connections):\n"
        "    with trio.open_signal_receiver(signal.SIGUSR1) as signals:\n"
        "        await connections.wait_ready()\n"
        "        print('listening', flush=True)\n"
        "        async for _ in signals:\n"
        "            connections['main'].provider.faults.refuse()\n"
    )
    write(tmp_path, settings({"main": {"backend": "local", "retry": {"attempts": 1}}}))

    def begin() -> Program:
        program = start("run", "app:main", MOORINGS_RUNTIME__EXPORTER__PORT=port)
        program.said("listening")
        return program

    return begin


def test_in_a_pipe_every_change_is_a_line(flaky: Any, start: Start) -> None:
    """Gone and back are said on stderr; Ctrl-C ends it with 130, and no traceback."""
    program = flaky()
    watch = start("status", "--watch", "--url", program.url())
    watch.said("main  ready")
    program.signal(signal.SIGUSR1)
    watch.said("main  failed  refused: the in-memory server")
    program.signal(signal.SIGKILL)
    watch.said(f"{program.url()} is gone: ")
    program.ended()
    flaky()
    watch.said(f"{program.url()} answers again")
    watch.signal(signal.SIGINT)
    assert watch.ended() == 130
    assert "Traceback" not in watch.stderr
    stamped = [line.split("  ") for line in watch.stdout.splitlines()]
    assert {line[1] for line in stamped} == {"main"}


def test_behind_a_proxy_that_cuts_every_stream_it_asks_slower_and_slower(
    flaky: Any, start: Start, cutting: Callable[[str], Cutting]
) -> None:
    """And goes on telling what there is."""
    proxy = cutting(flaky().url())
    watch = start("status", "--watch", "--url", proxy.url)
    first, second, third = proxy.until_streams(3)
    assert second - first > following.RETRY * 0.9
    assert third - second > following.RETRY * 1.9
    watch.said("main  ready")


@pytest.mark.slow
def test_as_json_every_change_is_a_document(flaky: Any, start: Start) -> None:
    program = flaky()
    watch = start("status", "--watch", "--json", "--url", program.url())
    watch.said('"ready"')
    program.signal(signal.SIGTERM)
    watch.said('"gone"')
    flaky()
    watch.said('"back"')
    watch.signal(signal.SIGTERM)
    assert watch.ended() == 128 + signal.SIGTERM
    found = [json.loads(line) for line in watch.stdout.splitlines()]
    kinds = [document["event"] for document in found]
    assert kinds[0] == "connection"
    assert kinds.index("gone") < kinds.index("back")
    assert found[0]["connection"]["name"] == "main"
    assert all(isinstance(document["at"], float) for document in found)
    [gone] = [document for document in found if document["event"] == "gone"]
    assert gone["why"] == "it has stopped"


@pytest.mark.slow
def test_on_a_terminal_it_is_a_live_table(flaky: Any, terminal: Any, tmp_path: Path) -> None:
    """That says when the program is gone, and gives the cursor back."""
    program = flaky()
    keyboard, wait = terminal(tmp_path, "status", "--watch", "--url", program.url())
    wait("next attempt")
    wait("\x1b[32mready")
    wait("live from")
    program.signal(signal.SIGUSR1)
    wait("\x1b[1;31mfailed")
    wait("refused: the in-memory server")
    program.signal(signal.SIGKILL)
    wait("is gone since")
    program.ended()
    flaky()
    wait("live from")
    os.write(keyboard, b"\x03")
    wait("\x1b[?25h")


def test_whoever_has_read_enough_may_close_the_pipe(flaky: Any, tmp_path: Path) -> None:
    program = flaky()
    watch = subprocess.Popen(
        [sys.executable, "-m", "moorings", "status", "--watch", "--url", program.url()],
        cwd=tmp_path,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    assert "ready" in watch.stdout.readline()
    watch.stdout.close()  # and nothing changes
    assert watch.wait(SECONDS) == 128 + signal.SIGPIPE
    assert watch.stderr is not None
    assert watch.stderr.read() == ""
    watch.stderr.close()


def test_an_older_program_is_asked_again_and_again(
    stranger: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has `/connections`, and no `/events`; it is said that it is not live."""
    monkeypatch.setattr(asking, "POLL", 0.01)
    body = json.dumps([row(connection("old"), ())]).encode()
    said: list[str] = []
    changes = Follower(stranger(body, "/connections"), lambda: said.append("polling")).changes()
    for _ in range(3):
        change = next(changes)
        assert isinstance(change, Told)
        assert change.status.name == "old"
    assert said == ["polling"]


@pytest.mark.slow
def test_a_program_that_falls_silent_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It froze, or the way to it is cut: no socket says so."""
    monkeypatch.setattr(asking, "TIMEOUT", 2.5)
    program = start("run")
    program.becomes_ready()
    changes = Follower(program.url(), lambda: None).changes()
    assert isinstance(next(changes), Told)
    program.signal(signal.SIGSTOP)
    try:
        found = next(change for change in changes if isinstance(change, Gone))
    finally:
        program.signal(signal.SIGCONT)
    assert found.why == "it has been silent for 2.5 s"
    assert isinstance(next(changes), Back)
