"""The book of one supervisor: every fact is checked against the rules as it comes.

Facts come from the children's own bodies, from the supervisor's events and from those who give
commands; none is read from the supervisor's inside.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from moorings.supervisors import (
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    ChildState,
    ChildUnstopped,
    Escalated,
    RestartIntensityExceeded,
    ShuttingDown,
    Supervisor,
    SupervisorEvent,
)

from .rules import Entry, Expected, runs_again, spend, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .run import Simulation
    from .world import Policy, Tree, Worker


@dataclass(eq=False)
class Command:
    """A command that has not been answered."""

    name: str
    ids: tuple[str, ...]
    nodes: dict[str, Worker | Tree]
    begun: dict[str, list[int]] = field(default_factory=dict)
    came_up: set[str] = field(default_factory=set)


class Ledger:
    """Checks one life of one supervisor."""

    def __init__(self, simulation: Simulation, path: str, tree: Tree) -> None:
        self.simulation = simulation
        self.path = path
        self.tree = tree
        self.group = tree.strategy != "one_for_one"
        self.entries: dict[str, Entry] = {}  # in start order
        self.commands: list[Command] = []
        self.excused: dict[str, float] = {}
        self.upward: list[float] = []
        self.causes: set[str] = set()
        self.expected: Expected | None = None
        self.ending = False
        self.ending_at = 0.0
        self.escalated = False
        self.last_end = 0.0

    def _log(self, text: str) -> None:
        self.simulation.log(f"{self.path}: {text}")

    def _violated(self, text: str) -> None:
        self.simulation.violated(f"{self.path}: {text}")

    def _settle(self) -> None:
        """Whatever had to be next has not come."""
        expected, self.expected = self.expected, None
        if expected is not None and not expected.optional:
            self._violated(f"the end of {expected.id} was not followed by {expected.event}")

    def _asked(self, child: str, *names: str) -> list[Command]:
        return [c for c in self.commands if child in c.ids and (not names or c.name in names)]

    def _is_excused(self, child: str) -> bool:
        """Whether a command may be what stops it."""
        names = ("start_child", "start_children", "terminate_child", "restart_child")
        return bool(self._asked(child, *names)) or self.excused.get(child) == trio.current_time()

    def _later(self, child: str) -> list[tuple[str, Entry]]:
        items = list(self.entries.items())
        return items[1 + list(self.entries).index(child) :]

    def _shares(self, child: str, cause: str) -> bool:
        """Whether `child` falls with `cause`."""
        if not self.group or child == cause or cause not in self.entries:
            return False
        if self.tree.strategy == "one_for_all":
            return True
        return child in dict(self._later(cause))

    # -- children's bodies --------------------------------------------------------------------

    def began(self, child: str, number: int, policy: Policy) -> None:
        self._log(f"{child} #{number} began")
        self._settle()
        starts = self._asked(child, "start_child", "start_children")
        entry = self.entries.get(child)
        restarts = self._asked(child, "restart_child")
        if entry is not None and entry.alive:
            self._violated(f"{child} has two incarnations at once")
        if entry is not None and (entry.restarting or entry.spawned):
            self._check_restart(child, entry, hurried=bool(restarts))
            grouped = self.group and not entry.alone and not entry.spawned
            entry.starter = "maybe" if restarts else "group" if grouped else None
        elif starts:
            self.entries.pop(child, None)  # at the end of the start order
            entry = self.entries[child] = Entry(policy)
            entry.starter = "command"
            self._check_start_order(child, starts)
        elif entry is not None and restarts:
            entry.starter = "command"
        else:
            self._violated(f"{child} runs, and neither a restart nor a command is why")
            entry = self.entries.setdefault(child, Entry(policy))
        # A task that was about to run does, before the one that stops it has its turn.
        if self.ending and not starts and trio.current_time() > self.ending_at:
            self._violated(f"{child} runs in a supervisor that ends")
        entry.leave()
        self.causes.discard(child)
        entry.alive, entry.up, entry.cancelled_at = True, False, None
        entry.overdue_told = entry.hurried = entry.dismissed = False
        entry.begun += 1
        for command in [c for c in starts if c.nodes[child].policy is policy] + restarts:
            command.begun.setdefault(child, []).append(number)

    def _check_restart(self, child: str, entry: Entry, *, hurried: bool) -> None:
        now = trio.current_time()
        if entry.restarting and not hurried and not entry.hurried:
            early = now < entry.told_at + entry.delay
            late = not self.group and now > entry.told_at + entry.delay
            if early or late:
                self._violated(f"{child} was to rest {entry.delay} s from {entry.told_at}")
        if self.group and entry.restarting and not entry.alone:
            for other, its in self.entries.items():
                if other == child:
                    break
                elsewhere = any(self._shares(other, cause) for cause in self.causes - {child})
                if its.owed and not elsewhere and not self._asked(other):
                    self._violated(f"{child} is started before {other}")

    def _check_start_order(self, child: str, starts: list[Command]) -> None:
        if not any(c.came_up >= set(c.ids[: c.ids.index(child)]) for c in starts):
            self._violated(f"{child} is started before those listed before it are up")

    def came_up(self, child: str) -> None:
        self._log(f"{child} is up")
        self.entries[child].up = True
        for command in self._asked(child):
            command.came_up.add(child)

    def cancelled(self, child: str) -> None:
        self._log(f"{child} is cancelled")
        self._settle()
        entry = self.entries[child]
        entry.cancelled_at = trio.current_time()
        if self._is_excused(child):
            self._check_rollback(child)
            return
        if not self.ending and not any(self._shares(child, cause) for cause in self.causes):
            self._violated(f"{child} is stopped, and nobody knows why")
        if not self.tree.ordered:
            return
        alive = [i for i, e in self._later(child) if e.alive and not self._is_excused(i)]
        if alive:
            self._violated(f"{child} is stopped before {', '.join(alive)}, started later")

    def _check_rollback(self, child: str) -> None:
        if self.ending or self._asked(child, "terminate_child", "restart_child", "start_child"):
            return
        for command in self._asked(child, "start_children"):
            for other in command.ids[command.ids.index(child) + 1 :]:
                if other in command.begun and self.entries[other].alive:
                    self._violated(f"{child} is stopped before {other}, started with it later")

    def over(self, child: str, how: str) -> None:
        self._log(f"{child} is over: {how}")
        self._settle()
        entry = self.entries[child]
        entry.alive = False
        self.last_end = trio.current_time()
        since = entry.cancelled_at
        budget = entry.policy.shutdown
        overdue = since is not None and trio.current_time() - since > budget
        if (
            overdue
            and not entry.dismissed
            and not entry.overdue_told
            and not self._is_excused(child)
            and self.ending
        ):
            self._violated(f"{child} outlived its {entry.policy.shutdown} s, and nobody was told")

    # -- events -------------------------------------------------------------------------------

    def saw(self, event: SupervisorEvent) -> None:
        """The supervisor's observer."""
        entry = self.entries.get(event.id)
        self._log(f"{type(event).__name__} {event.id} {_details(event)}")
        if entry is None:
            if isinstance(event, ChildUnstopped) and event.shutdown == 0:
                return  # stopped before it ran, and told at once
            self._violated(f"{event} tells of a child that never ran")
            return
        match event:
            case ChildStarted():
                if not (entry.alive and entry.up):
                    self._violated(f"{event.id} is said to be up")
            case ChildEnded():
                self._settle()
                self._ended(event, entry)
            case ChildRestarting():
                self._restarting(event, entry)
            case ChildUnstopped():
                self.simulation.result.unstopped += 1
                now = trio.current_time()
                entry.overdue_told = True
                since = now if entry.cancelled_at is None else entry.cancelled_at
                if event.shutdown == 0:
                    return  # told at once, even of one that rests
                if not entry.alive or now - since < event.shutdown:
                    self._violated(f"{event.id} is said to be overdue")
            case Escalated():
                self._escalated(event, entry)
            case ShuttingDown():
                self._shutting_down(event, entry)

    def _ended(self, event: ChildEnded, entry: Entry) -> None:
        child, error, now = event.id, event.error, trio.current_time()
        entry.ended += 1
        if entry.alive:
            self._violated(f"{child} is said to have ended")
        if event.stopping:
            commanded = entry.dismissed or self._is_excused(child)
            entry.owed = not (self.ending or commanded or entry.policy.restart == "temporary")
            return
        if entry.cancelled_at is not None:
            self._violated(f"{child} was stopped, and is said to have ended by itself")
        if self.ending:
            return
        if not entry.up and entry.starter in {"command", "group"}:
            entry.due = entry.counts = entry.starter == "group"
            return
        optional = not entry.up and entry.starter == "maybe"
        falls = any(self._shares(child, cause) for cause in self.causes)
        if not runs_again(entry.policy, error):
            if not falls:
                self._ended_for_good(child, entry, optional=optional)
            return
        own, counts = spend(entry, now)
        if falls and counts:
            entry.starter, entry.own = "maybe", own  # unless its turn comes before
            return
        if self.group and counts:
            entry.due, entry.counts = not optional, True
            entry.own = own
            return
        upward = within([*self.upward, now], now, self.tree.period) if counts else self.upward
        what = "Escalated" if len(upward) > self.tree.intensity and counts else "ChildRestarting"
        self.expected = Expected(child, what, optional, own, upward)

    def _ended_for_good(self, child: str, entry: Entry, *, optional: bool) -> None:
        if not entry.policy.significant:
            return
        others = [e for i, e in self.entries.items() if i != child and self._is_active(i, e)]
        if self.tree.auto_shutdown == "any_significant" or not others:
            optional |= any(c.name != "terminate_child" for c in self.commands)
            if self.group:
                entry.finished = not self.commands
            else:
                self.expected = Expected(child, "ShuttingDown", optional)

    def _is_active(self, child: str, entry: Entry) -> bool:
        running = entry.alive and entry.cancelled_at is None
        active = running or entry.restarting or entry.spawned or entry.owed or entry.due
        return entry.policy.significant and active and not self._asked(child, "terminate_child")

    def _fulfil(self, child: str, event: str) -> bool:
        """Whether this event is the expected one."""
        expected = self.expected
        if expected is None or (expected.id, expected.event) != (child, event):
            self._settle()
            return False
        self.expected = None
        if expected.own is not None:
            self.entries[child].own = expected.own
        if expected.upward is not None:
            self.upward = expected.upward
        return True

    def _restarting(self, event: ChildRestarting, entry: Entry) -> None:
        child, now, policy = event.id, trio.current_time(), entry.policy
        self.simulation.result.restarts += 1
        if self.ending:
            self._violated(f"{child} is restarted in a supervisor that ends")
        if policy.restart == "temporary":
            self._violated(f"{child} is temporary, and restarted")
        if event.reason == "exit" and policy.restart != "permanent":
            self._violated(f"{child} is {policy.restart}, ended normally, and is restarted")
        low, high = policy.backoff or (0.0, 0.0)
        if event.reason != "sibling" and not low <= event.delay <= high:
            self._violated(f"{child} rests {event.delay} s, not between {low} and {high}")
        entry.alone = self._fulfil(child, "ChildRestarting") and self.group
        if event.reason == "sibling":
            if not self.group:
                self._violated(f"{child} is restarted for a sibling's sake")
        elif self.group and not entry.alone:
            self._group_restart(child, entry, now)
        elif not self.group and entry.alive:
            self._violated(f"{child} is restarted while it runs")
        entry.leave()
        entry.restarting, entry.told_at, entry.delay = True, now, event.delay

    def _group_restart(self, child: str, entry: Entry, now: float) -> None:
        if not (entry.due or entry.starter == "maybe"):
            self._violated(f"{child} is restarted, and had not ended")
        self.upward = within([*self.upward, now], now, self.tree.period)
        if len(self.upward) > self.tree.intensity:
            self._violated(f"{len(self.upward)} restarts in {self.tree.period} s, no escalation")
        self.causes.add(child)
        for other, its in self.entries.items():
            if self._shares(other, child):
                its.due = its.finished = False  # whoever falls with it has no end of its own

    def _escalated(self, event: Escalated, entry: Entry) -> None:
        self.simulation.result.escalations += 1
        if self.group:
            self._settle()
            now = trio.current_time()
            self.upward = within([*self.upward, now], now, self.tree.period)
            if len(self.upward) <= self.tree.intensity:
                self._violated(f"gave up after {len(self.upward)} restarts")
            if not (entry.due or entry.starter == "maybe"):
                self._violated(f"gave up because of {event.id}, which had not ended")
        elif not self._fulfil(event.id, "Escalated"):
            self._violated(f"gave up because of {event.id}, too soon")
        self.escalated = True
        self._end()

    def _shutting_down(self, event: ShuttingDown, entry: Entry) -> None:
        self.simulation.result.shutdowns += 1
        as_expected = self._fulfil(event.id, "ShuttingDown")
        if not entry.policy.significant or self.tree.auto_shutdown == "never":
            self._violated(f"shuts down because of {event.id}, which is not significant")
        others = [i for i, e in self.entries.items() if i != event.id and self._is_active(i, e)]
        if self.tree.auto_shutdown == "all_significant" and others and not as_expected:
            self._violated(f"shuts down while {', '.join(others)} is active")
        self._end()

    # -- commands -----------------------------------------------------------------------------

    @contextmanager
    def command(
        self,
        name: str,
        ids: tuple[str, ...] = (),
        nodes: Sequence[Worker | Tree] = (),
    ) -> Iterator[Callable[[Any], None]]:
        """Around a command; what is yielded takes its answer."""
        by_id = {node.policy.id: node for node in nodes}
        command = Command(name, ids or tuple(n.policy.id for n in nodes), by_id)
        self._log(f"{name} {', '.join(command.ids)}")
        self._settle()
        self.commands.append(command)
        self._ask(command)
        try:
            yield lambda given: self._answered(command, given)
        except BaseException as error:
            self._log(f"{name} {', '.join(command.ids)}: {error!r}")
            raise
        finally:
            self._settle()
            self.commands.remove(command)
            for child in command.ids:
                self.excused[child] = trio.current_time()
                entry = self.entries.get(child)
                if name == "terminate_child" and entry is not None and entry.alive:
                    entry.dismissed |= self._is_busy(child, entry)

    def _ask(self, command: Command) -> None:
        for child in command.ids:
            entry = self.entries.get(child)
            if entry is not None and command.name == "terminate_child" and not self.group:
                entry.leave()
            if entry is not None and command.name == "restart_child":
                entry.hurried = True

    def _answered(self, command: Command, given: Any) -> None:
        self._log(f"{command.name} {', '.join(command.ids)}: {given}")
        match command.name:
            case "start_child" | "start_children" | "restart_child":
                ran = all(number in command.begun.get(child, ()) for child, number in given)
                if not ran or tuple(child for child, _ in given) != command.ids:
                    self._violated(f"{command.name} gave {given}, not of {command.begun}")
            case "start_children_nowait":
                for child, node in command.nodes.items():
                    self.entries.pop(child, None)
                    self.entries[child] = Entry(node.policy, spawned=True)
            case "terminate_child":
                child = command.ids[0]
                entry = self.entries.get(child)
                if entry is None or child in command.begun:
                    return
                if entry.alive:
                    self._violated(f"{child} is terminated, and runs")
                entry.leave()
                self.causes.discard(child)
            case _:
                entry = self.entries.pop(command.ids[0], None)
                if entry is not None and (entry.alive or (entry.restarting and not self.group)):
                    self._violated(f"{command.ids[0]} is deleted, and runs")

    # -- the block ----------------------------------------------------------------------------

    def block_over(self) -> None:
        self._log("block over")
        self._settle()
        self._end()

    def _end(self) -> None:
        if not self.ending:
            self.ending, self.ending_at = True, trio.current_time()

    def outcome(self, error: BaseException | None) -> None:
        gave_up = [
            found
            for found in (getattr(error, "exceptions", None) or (error,))
            if isinstance(found, RestartIntensityExceeded) and found.supervisor == self.path
        ]
        if self.escalated != bool(gave_up):
            self._violated(f"escalated is {self.escalated}, and what leaves the block is {error!r}")

    def closed(self) -> None:
        self._log("closed")
        self._settle()
        for child, entry in self.entries.items():
            if entry.alive:
                self._violated(f"{child} is left behind, running")
            if entry.begun != entry.ended:
                self._violated(f"{child} began {entry.begun} times, {entry.ended} ends were told")

    # -- from time to time --------------------------------------------------------------------

    def compare(self, supervisor: Supervisor) -> None:
        """While nothing happens: is what the supervisor says what is; is nobody forgotten."""
        self._settle()
        if self.ending:
            return
        infos = {info.id: info.state for info in supervisor.which_children()}
        for child, entry in self.entries.items():
            if entry.alive and infos.get(child) not in self._states(entry):
                self._violated(f"{child} runs, and is said to be {infos.get(child)}")
        for child, state in infos.items():
            runs = child in self.entries and self.entries[child].alive
            if not runs and state not in {ChildState.STOPPED, ChildState.RESTARTING}:
                self._violated(f"{child} does not run, and is said to be {state}")
        active, alive = (
            supervisor.count_children().active,
            sum(entry.alive for entry in self.entries.values()),
        )
        if active != alive:
            self._violated(f"{active} children are said to be active, {alive} are")
        self._check_forgotten()

    @staticmethod
    def _states(entry: Entry) -> set[ChildState]:
        if entry.cancelled_at is not None:
            return {ChildState.STOPPING}
        # A supervisor that ends by itself takes no notice of being stopped as well.
        return {ChildState.RUNNING if entry.up else ChildState.STARTING, ChildState.STOPPING}

    def _is_busy(self, child: str, entry: Entry) -> bool:
        """Whether it starts or stops, or is a supervisor that does."""
        _, ledger = self.simulation.open.get(f"{self.path}/{child}", (None, None))
        ends = ledger is not None and ledger.ending
        return ends or entry.cancelled_at is not None or not entry.up

    def _check_forgotten(self) -> None:
        now = trio.current_time()
        since = self.last_end if self.group else 0.0  # a group rests when all of it has stopped
        rests = [
            e
            for e in self.entries.values()
            if e.restarting and now <= max(e.told_at, since) + e.delay
        ]
        busy = [i for i, e in self.entries.items() if e.alive and self._is_busy(i, e)]
        if self.group and (rests or busy or self.commands):
            return
        for child, entry in self.entries.items():
            if self._asked(child) or entry in rests:
                continue
            if entry.restarting or entry.spawned:
                self._violated(f"{child} was to run again, and does not")
            if self.group and (entry.due or entry.owed):
                self._violated(f"{child} was to run again with its group, and does not")
            if self.group and entry.finished:
                self._violated(f"{child} is significant, ended, and nothing shut down")


def _details(event: SupervisorEvent) -> str:
    match event:
        case ChildEnded():
            return f"error={event.error!r} stopping={event.stopping}"
        case ChildRestarting():
            return f"{event.reason} after {event.delay} s"
        case _:
            return ""
