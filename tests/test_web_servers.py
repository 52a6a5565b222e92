"""Web applications under uvicorn, in processes of their own, while databases come and go."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import pytest
from mongod import free_port
from settings_files import DEFAULTS, mongo, settings, write

from moorings.runtime.http_events import STREAMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from mongod import Mongod, MongodFactory
    from processes import Program, Start

WAIT = 0.5
"""How long the application lets a request wait for its database, in seconds."""
OPERATION, SLOW = 1.5, 6.0
"""How long it lets an operation take, in seconds; and one that is slow."""
DRIVERS_STEP = 0.5
"""How often a driver that selects a server looks at its own deadline, in seconds."""
LATE = 0.1
"""How much later than that an answer may be given, in seconds."""
SOON = 30.0
"""Seconds for what is not measured here, only waited for."""

COMMON = """
import signal, sys, time
import pymongo, uvicorn
from moorings.runtime.web import connections, database, install, lifespan

WAIT, OPERATION, SLOW, DRIVERS_STEP = %s, %s, %s, %s

class Timed:  # tells how long an answer took, without what client and machine add
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        began = time.monotonic()

        async def stamping(message):
            if message["type"] == "http.response.start":
                seconds = f"{time.monotonic() - began:.3f}".encode()
                message["headers"] = [*message["headers"], (b"x-seconds", seconds)]
            await send(message)

        await self.app(scope, receive, stamping)

async def find(db, slow):
    with pymongo.timeout((SLOW if slow else OPERATION) - DRIVERS_STEP):
        where = {"$where": "sleep(30000) || true"} if slow else {}
        return str(await db.things.find_one(where, comment="slow" if slow else "quick"))

def plant_a_bug(manager):
    def summarise(now):
        raise RuntimeError("a planted bug")

    manager.kernel.announcer.summarise = summarise

def serve(app):
    app.add_middleware(Timed)
    # What uvicorn does with the signal, once it has stopped in order, is to raise it again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(app, port=0, ws="none", access_log=False)
"""

FASTAPI = """
from typing import Annotated, Any
from fastapi import Depends, FastAPI
from app_common import *

app = FastAPI(lifespan=lifespan())
install(app)

@app.get("/things")
async def things(db: Annotated[Any, Depends(database(wait=WAIT))], slow: bool = False):
    return await find(db, slow)

@app.get("/plant")
async def plant(manager: Annotated[Any, Depends(connections)]):
    plant_a_bug(manager)

if __name__ == "__main__":
    serve(app)
"""

STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from app_common import *

the_database = database(wait=WAIT)

async def things(request):
    db = await the_database(request)
    return PlainTextResponse(await find(db, "slow" in request.query_params))

async def plant(request):
    plant_a_bug(connections(request))
    return PlainTextResponse("planted")

app = Starlette(lifespan=lifespan(), routes=[Route("/things", things), Route("/plant", plant)])
install(app)

if __name__ == "__main__":
    serve(app)
"""

APPLICATIONS = {"fastapi": FASTAPI, "starlette": STARLETTE}

# What FastAPI adds is not what is tested, so that the other one is among the slow tests.
QUICKLY_ONE = ["fastapi", pytest.param("starlette", marks=pytest.mark.slow)]

# A connect of its asynchronous client that is cancelled leaves the socket to the collector.
PYMONGOS_OWN = ["-W", "ignore:unclosed:ResourceWarning"]


@pytest.fixture
def serve(start_python: Start, tmp_path: Path) -> Start:
    """Starts an application of `APPLICATIONS` with the settings of the working directory."""
    (tmp_path / "app_common.py").write_text(COMMON % (WAIT, OPERATION, SLOW, DRIVERS_STEP))

    def begin(application: str, backend: str = "local") -> Program:
        (tmp_path / "app.py").write_text(APPLICATIONS[application])
        ignored = PYMONGOS_OWN if backend == "pymongo" else []
        return start_python("-W", "default", *ignored, "app.py")

    return begin


@asynccontextmanager
async def client(program: Program) -> AsyncIterator[httpx2.AsyncClient]:
    url = await asyncio.to_thread(program.url)
    # The server ends what is idle for 5 s: a request must not meet that end on its way.
    limits = httpx2.Limits(max_connections=100, keepalive_expiry=1.0)
    # Its own environment may name a proxy, which loopback has no use for.
    async with httpx2.AsyncClient(
        base_url=url, timeout=SOON, limits=limits, trust_env=False
    ) as web:
        yield web


async def until(web: httpx2.AsyncClient, path: str, status: int) -> float:
    """Ask until the answer is `status`; how long that took, in seconds."""
    began = time.monotonic()
    async with asyncio.timeout(SOON):
        while (await web.get(path)).status_code != status:
            pass
    return time.monotonic() - began


def assert_clean_end(program: Program) -> None:
    program.signal(signal.SIGTERM)
    assert program.ended() == 0, program.stderr
    assert "Application shutdown complete" in program.stderr
    assert "Traceback" not in program.stderr
    assert "Warning" not in program.stderr


@dataclass
class Load:
    """What some workers were answered who ask all the time."""

    web: httpx2.AsyncClient
    answers: list[tuple[float, httpx2.Response]] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, workers: int = 10) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work()) for _ in range(workers)]
            yield
            for task in tasks:
                task.cancel()

    async def _work(self) -> None:
        while True:
            self.answers.append((time.monotonic(), await self.web.get("/things")))
            await asyncio.sleep(0.05)  # a pace that leaves the machine idle now and then

    def reasons(self, moment: float) -> Counter[str]:
        return Counter(answer.text for at, answer in self.answers if at >= moment)

    def since(self, moment: float) -> Counter[int]:
        return Counter(answer.status_code for at, answer in self.answers if at >= moment)


def assert_told_in_time(
    answers: list[httpx2.Response], operation: float = OPERATION, lag: float = 0.0
) -> None:
    """Only 200 and 503, and each 503 in time and with a date to come back."""
    for answer in answers:
        assert answer.status_code in {200, 503}, answer.text
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            begun = "is not ready" not in answer.text
            bound = WAIT + (operation if begun else 0.0)
            assert float(answer.headers["x-seconds"]) <= bound + LATE + lag


@contextmanager
def machines_lag() -> Iterator[Callable[[], float]]:
    """How late this machine woke a thread at worst, in seconds: what others' load costs."""
    worst = 0.0
    ended = threading.Event()

    def measure() -> None:
        nonlocal worst
        due = time.monotonic() + 0.01
        while not ended.wait(0.01):
            now = time.monotonic()
            worst = max(worst, now - due)
            due = now + 0.01

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield lambda: worst
    finally:
        ended.set()
        thread.join()


# -- ends


@pytest.mark.parametrize("application", QUICKLY_ONE)
def test_sigterm_ends_it_cleanly(serve: Start, tmp_path: Path, application: str) -> None:
    write(tmp_path, settings({"main": {"backend": "local"}}))
    program = serve(application)

    async def main() -> None:
        async with client(program) as web:
            await until(web, "/moorings/readyz", 200)

    asyncio.run(main())
    assert_clean_end(program)


def test_a_stream_of_events_ends_at_once_with_the_server(serve: Start, tmp_path: Path) -> None:
    """Uvicorn would wait for it for ever: it ends answers before it ends the lifespan."""
    write(tmp_path, settings({"main": {"backend": "local"}}))
    program = serve("fastapi")

    async def main() -> None:
        async with client(program) as web, web.stream("GET", "/moorings/events") as events:
            lines = events.aiter_lines()
            assert events.headers["content-type"].startswith("text/event-stream")
            while await anext(lines) != "event: snapshot":
                pass
            program.signal(signal.SIGTERM)
            async with asyncio.timeout(SOON):
                told = [line async for line in lines]  # until it is complete
            assert "event: end" in told
            assert any('"leaving"' in line for line in told)

    asyncio.run(main())
    assert_clean_end(program)


@pytest.mark.slow
def test_streams_of_readers_who_left_are_over(serve: Start, tmp_path: Path) -> None:
    """More of them, one after another, than there may be at a time."""
    write(tmp_path, settings({"main": {"backend": "local"}}))
    program = serve("fastapi")

    async def main() -> None:
        async with client(program) as web:
            for _ in range(STREAMS + 4):
                async with web.stream("GET", "/moorings/events") as events:
                    lines = events.aiter_lines()
                    while await anext(lines) != "event: snapshot":
                        pass
            async with asyncio.timeout(SOON):
                kind = "event: end"
                while kind == "event: end":
                    async with web.stream("GET", "/moorings/events") as events:
                        found = [ln async for ln in _taken(events.aiter_lines(), "event: ", 2)]
                        kind = found[-1]
            assert kind == "event: heartbeat"

    asyncio.run(main())
    assert_clean_end(program)


async def _taken(lines: AsyncIterator[str], start: str, count: int) -> AsyncIterator[str]:
    """The first so many lines that start like this."""
    async for line in lines:
        if line.startswith(start):
            yield line
            count -= 1
        if not count:
            return


@pytest.mark.mongod
@pytest.mark.parametrize("backend", ["mongo", "pymongo"])
def test_sigterm_ends_it_cleanly_with_the_database_down(
    serve: Start, tmp_path: Path, backend: str
) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/"
    write(tmp_path, settings({"main": mongo(url, backend=backend)}))
    program = serve("fastapi", backend)

    async def main() -> None:
        async with client(program) as web:
            assert (await web.get("/moorings/livez")).status_code == 200
            with machines_lag() as lag:
                answer = await web.get("/things")
                assert_told_in_time([answer], lag=lag())
            assert answer.status_code == 503

    asyncio.run(main())
    assert_clean_end(program)


@pytest.mark.parametrize("application", QUICKLY_ONE)
def test_a_dead_kernel_is_told_by_livez_within_a_second(
    serve: Start, tmp_path: Path, application: str
) -> None:
    """The server goes on, which is why the probe has to tell; requests are answered in time."""
    write(tmp_path, settings({"main": {"backend": "local"}}))
    program = serve(application)

    async def main() -> None:
        async with client(program) as web:
            await until(web, "/moorings/readyz", 200)
            with machines_lag() as lag:
                await web.get("/plant")
                assert await until(web, "/moorings/livez", 503) < 1.0 + lag()
                answers = [await web.get("/things") for _ in range(5)]
                assert_told_in_time(answers, lag=lag())
            assert {answer.status_code for answer in answers} == {503}
            assert (await web.get("/moorings/readyz")).status_code == 503

    asyncio.run(main())
    assert "a planted bug" in program.stderr
    program.signal(signal.SIGTERM)
    assert program.ended() == 0


# -- a server that comes and goes


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.parametrize(
    ("application", "backend"),
    [("fastapi", "mongo"), ("fastapi", "pymongo"), ("starlette", "pymongo")],
)
def test_a_server_comes_dies_and_is_back(
    serve: Start,
    mongod_factory: MongodFactory,
    tmp_path: Path,
    application: str,
    backend: str,
) -> None:
    server = mongod_factory()
    server.kill()
    write(tmp_path, settings({"main": mongo(server.url, health=DEFAULTS, backend=backend)}))
    program = serve(application, backend)
    with machines_lag() as lag:
        asyncio.run(_come_and_go(program, server, lag))
    assert_clean_end(program)


async def _come_and_go(program: Program, server: Mongod, lag: Callable[[], float]) -> None:
    async with client(program) as web:
        load = Load(web)
        async with load.running():
            await until(web, "/moorings/readyz", 503)
            assert (await web.get("/moorings/livez")).status_code == 200
            await _start_and_recover(web, server, load)
            in_flight = [asyncio.create_task(web.get("/things?slow=true")) for _ in range(20)]
            await _under_way(server, 20)
            await asyncio.to_thread(server.kill)
            caught = await asyncio.gather(*in_flight)
            assert {answer.status_code for answer in caught} == {503}, program.stderr
            await until(web, "/moorings/readyz", 503)
            await _start_and_recover(web, server, load)
        assert_told_in_time(caught, SLOW, lag=lag())
        assert_told_in_time([answer for _, answer in load.answers], lag=lag())
        assert load.since(0.0).keys() == {200, 503}


async def _start_and_recover(web: httpx2.AsyncClient, server: Mongod, load: Load) -> None:
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(_insert, server)
    await asyncio.sleep(5.0)  # the promise is about what is answered from here on
    since = time.monotonic()
    while (counted := load.since(since)).total() < 300:
        await web.get("/things")
    assert counted[200] >= 0.99 * counted.total(), load.reasons(since)


def _insert(server: Mongod) -> None:
    with server.client() as driver:
        driver.app.things.replace_one({}, {"a": 1}, upsert=True)


async def _under_way(server: Mongod, count: int) -> None:
    """Wait until the server works at so many finds at the same time."""

    def busy() -> int:
        with server.client() as driver:
            [found] = driver.admin.aggregate(
                [
                    {"$currentOp": {}},
                    {"$match": {"active": True, "command.comment": "slow"}},
                    {"$count": "all"},
                ]
            ).to_list() or [{"all": 0}]
            return int(found["all"])

    async with asyncio.timeout(SOON):
        while await asyncio.to_thread(busy) < count:
            pass
