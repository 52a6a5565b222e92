"""The book of one supervisor: every fact is checked against the rules as it comes.

Facts come from the children's own bodies, from the supervisor's events and from those who give
commands; none is read from the supervisor's inside.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from moorings.supervisors import RestartIntensityExceeded

from .commands import Commands
from .events import Events
from .rules import Entry

if TYPE_CHECKING:
    from moorings.supervisors import SupervisorEvent

    from .commands import Command
    from .rules import Expected
    from .run import Simulation
    from .world import Policy, Tree


class Ledger:
    """Checks one life of one supervisor."""

    def __init__(self, simulation: Simulation, path: str, tree: Tree) -> None:
        self.simulation = simulation
        self.path = path
        self.tree = tree
        self.group = tree.strategy != "one_for_one"
        self.entries: dict[str, Entry] = {}  # in start order
        self.former: dict[str, Entry] = {}  # significant ones: deleted, or their id another's
        self.upward: list[float] = []
        self.causes: set[str] = set()
        self.significant_up_since = 0  # how many facts there were when one last came up
        self.expected: Expected | None = None
        self.ending = False
        self.ending_at = 0.0
        self.escalated: RestartIntensityExceeded | None = None
        self.ends_itself = False
        self.block_began = False  # its own children are up
        self.block_told = False  # to end, or has by itself
        self.last_over_at = 0.0
        self.reasons: Counter[str] = Counter()
        self.heard: list[SupervisorEvent] = []  # by the observer after the one that breaks
        self.commands = Commands(self)
        self.events = Events(self)
        self.saw = self.events.saw

    def log(self, text: str) -> None:
        self.simulation.log(f"{self.path}: {text}")

    def violated(self, text: str) -> None:
        self.simulation.violated(f"{self.path}: {text}")

    @property
    def facts(self) -> int:
        """How many there were, in the whole simulation: a time without instants."""
        return len(self.simulation.result.log)

    def settle(self) -> None:
        """Whatever had to be next has not come."""
        expected, self.expected = self.expected, None
        if expected is not None and not expected.optional:
            self.violated(f"the end of {expected.id} was not followed by {expected.event}")

    def remove(self, child: str) -> Entry | None:
        """It is deleted, or forgotten and its id another's."""
        entry = self.entries.pop(child, None)
        if entry is not None and entry.policy.significant:
            self.former[child] = entry
        return entry

    def _later(self, child: str) -> list[tuple[str, Entry]]:
        items = list(self.entries.items())
        return items[1 + list(self.entries).index(child) :]

    def shares(self, child: str, cause: str) -> bool:
        """Whether `child` falls with `cause`."""
        if not self.group or child == cause or cause not in self.entries:
            return False
        if self.tree.strategy == "one_for_all":
            return True
        return child in dict(self._later(cause))

    # -- children's bodies --------------------------------------------------------------------

    def began(self, child: str, number: int, policy: Policy) -> None:
        self.log(f"{child} #{number} began")
        self.settle()
        starts = self.commands.bringing(child, policy)
        entry = self.entries.get(child)
        restarts = self.commands.naming(child, "restart_child")
        if entry is not None and entry.alive:
            self.violated(f"{child} has two incarnations at once")
        if entry is not None and entry.policy is not policy:
            entry = None  # another had its id
        if entry is not None:
            entry.restarted_by = frozenset()
        if entry is not None and (entry.restarting or entry.spawned):
            self._check_restart(child, entry, hurried=bool(restarts))
            grouped = self.group and not entry.alone and not entry.spawned
            entry.starter = "maybe" if restarts else "group" if grouped else None
        elif starts and entry is None:
            self.remove(child)  # at the end of the start order
            entry = self.entries[child] = Entry(
                policy,
                entered_at=trio.current_time(),
                entered_by=frozenset(starts),
                entered_since=self.facts,
            )
            entry.starter = "command"
            self._check_start_order(child, starts)
            self._check_turn(child, starts)
        elif entry is not None and restarts:
            if self.commands.was_to_be_taken_back(child):
                self.violated(f"{child} is started again, and was to be taken back")
            entry.starter, entry.restarted_by = "command", frozenset(restarts)
            self._check_turn(child, restarts)
        else:
            self.violated(f"{child} runs, and neither a restart nor a command is why")
            entry = self.entries[child] = Entry(policy)
        # A task that was about to run does, before the one that stops it has its turn.
        if self.ending and not starts and trio.current_time() > self.ending_at:
            self.violated(f"{child} runs in a supervisor that ends")
        entry.leave()
        self.causes.discard(child)
        entry.alive, entry.up, entry.cancelled_at = True, False, None
        entry.overdue_told = entry.hurried = entry.dismissed = entry.fell = False
        entry.begun += 1
        entry.number = number
        entry.began_at, entry.raised = trio.current_time(), None
        self._check_starvation(child, entry)
        # In a group nothing can come between an end by command and its answer; otherwise it can.
        ended = [] if self.group else self.commands.naming(child, "terminate_child")
        for command in starts + restarts + ended:
            command.begun.setdefault(child, []).append(number)

    def _check_restart(self, child: str, entry: Entry, *, hurried: bool) -> None:
        now = trio.current_time()
        if entry.restarting and not hurried and not entry.hurried:
            early = now < entry.told_at + entry.delay
            late = not self.group and now > entry.told_at + entry.delay
            if early or late:
                self.violated(f"{child} was to rest {entry.delay} s from {entry.told_at}")
        if self.group and entry.restarting and not entry.alone:
            for other, its in self.entries.items():
                if other == child:
                    break
                ended = {i for i, e in self.entries.items() if e.due}  # and waits for its turn
                others = (self.causes | ended) - {child}
                elsewhere = any(self.shares(other, cause) for cause in others)
                excused = its.dismissed or self.commands.naming(other)
                if its.owed and its.kept and not elsewhere and not excused:
                    self.violated(f"{child} is started before {other}")

        alone = entry.alone or hurried  # as one that a command took out, and another starts
        if self.group and entry.restarting and not alone and child in self.causes:
            up = [i for i, e in self._later(child) if e.alive]
            if up:
                self.violated(f"{child} is started with its group, and {', '.join(up)} still runs")

    def _check_starvation(self, child: str, entry: Entry) -> None:
        task = trio.lowlevel.current_task()
        step = task, task._schedule_points
        entry.begun_in_step = 1 + (entry.begun_in_step if step == entry.step else 0)
        entry.step = step
        if entry.begun_in_step > 2:
            self.violated(f"{child} runs again and again, and nobody else does")

    def _check_start_order(self, child: str, starts: list[Command]) -> None:
        if not self.tree.ordered:
            if all(c.given_at < trio.current_time() for c in starts):
                self.violated(f"{child} is started later than it was asked for")
        elif not any(c.came_up >= set(c.ids[: c.ids.index(child)]) for c in starts):
            self.violated(f"{child} is started before those listed before it are up")

    def _check_turn(self, child: str, commands: list[Command]) -> None:
        since = min(command.since for command in commands)
        waits = [i for i, e in self.entries.items() if e.due and (e.due_since or since) < since]
        if self.group and waits and not self.ending:
            self.violated(f"{child} is started before the end of {', '.join(waits)} has its turn")

    def came_up(self, child: str) -> None:
        self.log(f"{child} is up")
        entry = self.entries[child]
        entry.up = True
        # Else its start comes to nothing, careful as it is, unless it was only terminated.
        wanted = entry.cancelled_at is None
        if entry.policy.significant and (wanted or self.commands.may_be_terminated(child)):
            self.significant_up_since = self.facts
        if wanted and not self.commands.is_unwanted(child):  # else it may come to nothing, too
            entry.wanted_since = self.facts
        self.commands.came_up(child)

    def cancelled(self, child: str) -> None:
        entry = self.entries[child]
        if entry.cancelled_at is not None:  # it was careful, and had to be told again
            return
        self.log(f"{child} is cancelled")
        self.settle()
        entry.cancelled_at = trio.current_time()
        if entry.dismissed or self.commands.may_stop(child):
            self._check_rollback(child)
            return
        if not self.ending and not any(self.shares(child, cause) for cause in self.causes):
            self.violated(f"{child} is stopped, and nobody knows why")
        if not self.tree.ordered:
            return
        alive = [
            i
            for i, e in self._later(child)
            if e.alive and not self.commands.may_stop(i) and not e.may_precede(entry)
        ]
        if alive:
            self.violated(f"{child} is stopped before {', '.join(alive)}, started later")

    def _check_rollback(self, child: str) -> None:
        others = "terminate_child", "restart_child", "start_child"
        if (
            self.ending
            or self.commands.has_just_stopped(child)
            or self.commands.naming(child, *others)
        ):
            return
        number = self.entries[child].number
        # A temporary child's end leaves its id to others: each command starts one incarnation.
        mine = [
            c
            for c in self.commands.naming(child, "start_children")
            if c.begun.get(child, [])[:1] == [number]
        ]
        for command in mine if len(mine) == 1 else ():
            if not self.tree.ordered:
                late = command.failed_at is not None and trio.current_time() > command.failed_at
                if late and self.below(child) is None:
                    self.violated(f"{child} is stopped long after a start failed with which it was")
                continue
            for other in command.ids[command.ids.index(child) + 1 :]:
                ours = other in command.begun and self.commands.brought(command, other)
                if ours and self.entries[other].alive:
                    self.violated(f"{child} is stopped before {other}, started with it later")

    def over(self, child: str, how: str, raised: BaseException | None) -> None:
        self.log(f"{child} is over: {how}")
        self.settle()
        entry = self.entries[child]
        entry.alive, entry.raised = False, raised
        entry.over_at = self.last_over_at = trio.current_time()
        entry.kept &= not entry.is_forgotten_at_its_end()
        self.commands.over(child, entry)
        since = entry.cancelled_at
        budget = entry.policy.shutdown
        overdue = since is not None and trio.current_time() - since > budget
        if overdue and not entry.overdue_told:
            self.violated(f"{child} outlived its {entry.policy.shutdown} s, and nobody was told")

    # -- the block ----------------------------------------------------------------------------

    def block_over(self) -> None:
        self.log("block over")
        self.settle()
        self.block_told = True
        self.last_over_at = max(self.last_over_at, trio.current_time())
        self.end()

    def end(self) -> None:
        if not self.ending:
            self.ending, self.ending_at = True, trio.current_time()

    def outcome(self, error: BaseException | None) -> None:
        gave_up = [
            found
            for found in (getattr(error, "exceptions", None) or (error,))
            if isinstance(found, RestartIntensityExceeded) and found.supervisor == self.path
        ]
        escalated = [] if self.escalated is None else [self.escalated]
        if escalated != gave_up:
            self.violated(f"gave up with {escalated}, and what leaves the block is {error!r}")

    def closed(self) -> None:
        self.log("closed")
        self.settle()
        if trio.current_time() > self.last_over_at:
            self.violated(f"its last child ended at {self.last_over_at} s, and it ends now")
        if self.heard != self.events.told:
            self.violated("not all observers were told the same")
        for child, entry in self.entries.items():
            if entry.alive:
                self.violated(f"{child} is left behind, running")
            if entry.begun != entry.ended:
                self.violated(f"{child} began {entry.begun} times, {entry.ended} ends were told")

    def below(self, child: str) -> Ledger | None:
        """The book of a child that is a supervisor, while that is open."""
        return self.simulation.open.get(f"{self.path}/{child}", (None, None))[1]

    def is_busy(self, child: str, entry: Entry) -> bool:
        """Whether it starts or stops, or is a supervisor that does."""
        ledger = self.below(child)
        ends = ledger is not None and ledger.ending
        return ends or entry.cancelled_at is not None or not entry.up
