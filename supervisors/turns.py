"""Turns: one at a time, in the order of asking, as an Erlang process reads its messages."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from types import TracebackType


class Turns:
    """A queue of those who want to be alone.

    Not a `trio.Lock`: a place is taken without waiting for it, so that the end of a child keeps
    its rank before the commands that came after it, though its task has yet to run.
    """

    def __init__(self) -> None:
        self._queue: deque[Turn] = deque()
        self._released = False

    def take(self) -> Turn:
        """A place at the end of the queue; it has to be entered, or it blocks those behind it."""
        turn = Turn(self._queue)
        self._queue.append(turn)
        if self._released or self._queue[0] is turn:
            turn.come.set()
        return turn

    def release(self) -> None:
        """Let everybody in, now and from now on: what is left to do has no order."""
        self._released = True
        for turn in self._queue:
            turn.come.set()


class Turn:
    """A place in the queue: a context that is entered when it has come."""

    def __init__(self, queue: deque[Turn]) -> None:
        self._queue = queue
        self.come = trio.Event()

    async def __aenter__(self) -> None:
        try:
            await self.come.wait()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._queue.remove(self)
        if self._queue:
            self._queue[0].come.set()
