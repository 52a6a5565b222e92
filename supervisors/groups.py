"""one_for_all and rest_for_one: children that share their fate.

Ends and commands are handled one at a time, in the order in which they came, as OTP's supervisor
reads its messages: while a group is restarted nothing else is decided. Whoever is stopped for a
sibling's sake has no end of its own any more, even if it crashed a moment before. Only the end of
the supervisor waits for nothing: it reaches into a group that is being restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..errors import ChildStartFailed
from .child import RESTARTING, STARTING, STOPPED, STOPPING
from .ends import End
from .spec import Strategy
from .starting import start
from .stopping import stop_one, wait_stopped, watch
from .turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .child import Child
    from .runner import Runner
    from .turns import Turn


class Group:
    """Decides what follows an end where it concerns several children."""

    def __init__(self, runner: Runner, strategy: Strategy) -> None:
        self._runner = runner
        self._strategy = strategy
        self.turns = Turns()
        # Significant ones' last ends that wait for their turn, and with whom each falls until then:
        # temporary or deleted, it is no member of anything by that time.
        self._last_ends: dict[End, tuple[Child, list[Child]]] = {}

    def ended(self, child: Child, end: End) -> None:
        """`child` ended by itself: what follows is decided when its turn comes."""
        child.end_pending = end
        if child.spec.significant and end.reason is None:
            self._last_ends[end] = child, self._elders(child)
        turn = self.turns.take()
        name = f"{child.spec.id}: end"
        self._runner.nursery.start_soon(self._follow, child, end, turn, name=name)

    async def terminate(self, child: Child) -> None:
        """Stop a child when the turn has come; its own end, if it was first, is forgotten.

        It is taken out of a restart that is under way: the others come up without it.
        """
        child.leaving += 1
        try:
            if child.state is STARTING:
                child.stop()  # a start that hangs would keep the turn for ever
                watch(self._runner, child, trio.current_time())
            async with self.turns.take():
                # Its id may have another child by now: a start that was asked for before us.
                await self._take_out(self._runner.children.get(child.spec.id, child))
        finally:
            child.leaving -= 1

    async def _take_out(self, child: Child) -> None:
        child.end_pending = None
        was_due = child.state is RESTARTING
        child.stop()
        if was_due:
            self._go_on_without(child)
        await stop_one(self._runner, child)

    def _go_on_without(self, child: Child) -> None:
        """Start those that only `child` kept waiting: they are owed a start all the same."""
        owed = self._left(self._owed(child))
        if owed:
            name = f"{child.spec.id}: siblings"
            self._runner.nursery.start_soon(self._resume, owed, self.turns.take(), name=name)

    async def _resume(self, owed: Sequence[Child], turn: Turn) -> None:
        async with turn:
            await self._start_all(self._left(owed))

    def _left(self, owed: Sequence[Child]) -> list[Child]:
        """Those that are still owed a start, and that no other's restart will bring."""
        causes = [c for c in self._runner.children.values() if c.is_due()]
        served = {member for cause in causes for member in self._members(cause)}
        return [member for member in owed if member.is_owed() and member not in served]

    async def _follow(self, child: Child, end: End, turn: Turn) -> None:
        async with turn:
            self._last_ends.pop(end, None)
            if not self._is_due(child, end):
                return
            if end.reason is None:
                child.end_pending = None
                self._runner.significance.ended(child)
                return
            now = trio.current_time()
            if self._runner.is_too_many(child, end.error, now):
                return
            self._runner.begin_restart(child, end.reason, now)
            child.state = RESTARTING
            await self._stop_others(child, revive=not end.is_retry)
            if child.spec.backoff is None:
                await self._restart(child)
                return
        if self._runner.stopping:  # since the others were being stopped: nobody would wake it
            return
        await child.rest()  # nobody's turn: commands are heard
        async with self.turns.take():
            if self._is_due(child, end):
                await self._stop_others(child)  # whoever was started meanwhile
                await self._restart(child)

    def _is_due(self, child: Child, end: End) -> bool:
        return child.end_pending is end and not self._runner.stopping

    def _members(self, child: Child) -> list[Child]:
        """Who shares the fate of `child`, in start order."""
        children = list(self._runner.children.values())
        if self._strategy is Strategy.ONE_FOR_ALL:
            return children
        return children[children.index(child) :]

    def _elders(self, child: Child) -> list[Child]:
        """In whose group `child` is."""
        children = list(self._runner.children.values())
        if self._strategy is Strategy.ONE_FOR_ALL:
            return children
        return children[: children.index(child)]

    def _owed(self, child: Child) -> list[Child]:
        """Who of its group was stopped to be started again."""
        return [member for member in self._members(child) if member.is_owed()]

    async def _stop_others(self, child: Child, *, revive: bool = False) -> None:
        """Stop the others, the last first. From then on they are owed a start.

        `revive`: so are those that were stopped before. OTP starts whatever it has a spec of.
        """
        for end, (ended, elders) in self._last_ends.items():
            if child in elders and ended.end_pending is end:
                ended.end_pending = None
        for other in reversed(self._members(child)):
            if other is child:
                continue
            await self._stop_other(other, revive=revive)
            if self._runner.stopping:
                return

    async def _stop_other(self, other: Child, *, revive: bool) -> None:
        owed = revive or other.state not in {STOPPED, STOPPING}  # stopping: by a command
        hurried = other.detach_hurried()
        other.stop()
        await wait_stopped(self._runner, [other])
        other.end_pending = None
        kept = self._runner.children.get(other.spec.id) is other  # a temporary one is not
        if owed and kept and not self._runner.stopping:
            other.state, other.starting = RESTARTING, hurried
        elif hurried is not None:
            hurried.fail(other, other.error)

    async def _restart(self, child: Child) -> None:
        child.end_pending = None
        if not self._runner.stopping:  # else nobody waits for turns, and it may be forgotten
            await self._start_all(self._owed(child), cause=child)

    async def _start_all(self, members: Sequence[Child], cause: Child | None = None) -> None:
        """Start them in order, up to one that fails: that is an end of its own."""
        for member in members:
            if self._runner.stopping:
                return
            if member.leaving:  # it would be stopped as soon as it is up
                member.end()
                continue
            if member is not cause:  # of that one it was said when it ended
                self._runner.tell_restarting(member, "sibling")
            member.tried = True
            try:
                await start(self._runner, member)
            except ChildStartFailed:
                if member.was_stopped:  # by a command, or with the supervisor
                    continue
                member.state = RESTARTING
                self.ended(member, End("start_failed", member.error, is_retry=True))
                return
            finally:
                member.tried = False
