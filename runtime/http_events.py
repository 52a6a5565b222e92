"""`/events`: the connections live, as server-sent events, on trio and on asyncio.

A reader costs three tasks and at most one event in memory. A stream ends when its reader leaves,
when the manager is closed, when the web server wants to stop, and in any case after `LIFETIME`;
browsers come back by themselves.
"""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from .feed import HEARTBEAT, SNAPSHOT, Feed, last
from .hosts import clock, first_of, give_up_after, pause
from .slices import joined

if TYPE_CHECKING:
    from .feed import News, Shown
    from .http import Receive, Send

STREAMS = 16
"""Streams at a time. Whoever comes later gets one snapshot, and is asked to come back."""
HEARTBEAT_EVERY = 2.0
"""Seconds between events where nothing changes, so that readers notice a server that froze."""
LOOK_EVERY = 0.25
"""How often a stream looks whether its server wants to stop, in seconds: nobody tells it."""
GAP = 0.1
"""The shortest time between two events of a stream, in seconds."""
SHARE = 50
"""A stream rests so many times as long as it took to make an event: a large storm of changes
costs each of them a fiftieth of the loop's time at most."""
SEND_TIMEOUT = 5.0
"""How long an event may wait for a reader that does not read, in seconds."""
LIFETIME = 600.0
"""How long a stream lives at most, in seconds."""
RETRY = 1.0
"""When readers come back to a server that was there a moment ago, in seconds."""
BUSY_RETRY = 5.0
"""When they come back if there are too many of them, in seconds."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until it has a bufferful
]


class Streams:
    """The streams of one application: made, counted and bounded."""

    def __init__(self) -> None:
        self.open = 0

    async def serve(self, manager: Shown, method: str, receive: Receive, send: Send) -> None:
        """Answer one request, for as long as its stream lives.

        Cancellation ends it at once, in the middle of an event if need be.
        """
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if method == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        stream = _Stream(manager, send, once=self.open >= STREAMS)
        self.open += 1
        try:
            await first_of(
                stream.tell,
                partial(stream.until_reader_leaves, receive),
                stream.until_server_stops,
            )
            await stream.finish()
        finally:
            self.open -= 1


class _Stream:
    """One reader's: three tasks, of which the first to return ends the others."""

    def __init__(self, manager: Shown, send: Send, *, once: bool) -> None:
        self._manager = manager
        self._send = send
        self._once = once
        self._feed = Feed(manager)
        self._over = ("closed", RETRY)
        self._gone = False
        self._sending = False

    async def tell(self) -> None:
        """Tell what is new, whenever something is, until there is a reason to end."""
        over_at = clock() + LIFETIME
        beat_at = clock()
        while True:
            closed = self._manager.closed  # asked first: what is told after it is the last
            news = self._feed.news()
            silence = beat_at - clock()
            if news.kind == HEARTBEAT and silence > 0 and not closed:
                # Nothing is awaited between the look and this: no change is missed.
                await self._manager.change_within(silence)
                continue
            held = await self._tell_news(news)
            if self._sending or closed:
                return
            if self._once:
                self._over = ("busy", BUSY_RETRY)
                return
            if clock() >= over_at:
                self._over = ("renewed", 0.0)
                return
            beat_at = clock() + HEARTBEAT_EVERY
            await pause(min(max(GAP, held * SHARE), HEARTBEAT_EVERY))

    async def until_reader_leaves(self, receive: Receive) -> None:
        """Wait until nobody reads any more."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True

    async def until_server_stops(self) -> None:
        """Wait until our web server is told to stop."""
        while not _server_stops():
            await pause(LOOK_EVERY)
        self._over = ("leaving", RETRY)

    async def finish(self) -> None:
        """Say why the stream ends, to a reader who still reads."""
        if not (self._gone or self._sending):  # else it is cut off in the middle of an event
            await self._tell(last(*self._over).encode(), more=False)

    async def _tell_news(self, news: News) -> float:
        """Tell it; for how many seconds making the text has held the loop."""
        body, held = await joined(self._feed.text(news, time.time()))
        if news.kind == SNAPSHOT:
            body = f"retry: {RETRY * 1000:.0f}\n".encode() + body
        await self._tell(body, more=True)
        return held

    async def _tell(self, body: bytes, *, more: bool) -> None:
        message: dict[str, Any] = {"type": "http.response.body", "body": body, "more_body": more}

        async def sending() -> None:
            await self._send(message)
            self._sending = False

        self._sending = True
        await give_up_after(SEND_TIMEOUT, sending)


def _server_stops() -> bool:
    """Whether the web server that we are mounted in was told to stop.

    Uvicorn waits for every answer to end before it ends the lifespan, and tells none of them; but
    its handler of signals is a method of the server, which knows. Under others, and where uvicorn
    runs in a thread, streams end with `LIFETIME` or the server's own bound.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
