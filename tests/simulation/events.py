"""What a supervisor says, against what has to follow by the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from moorings.supervisors import (
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    ChildUnstopped,
    Escalated,
    RestartIntensityExceeded,
    ShuttingDown,
    SupervisorEvent,
)

from .rules import (
    Entry,
    Expected,
    delay,
    is_same_error,
    runs_again,
    spend,
    told,
    told_error,
    within,
)

if TYPE_CHECKING:
    from .commands import Command
    from .ledger import Ledger


class Events:
    """Enters the events of one supervisor in its book."""

    def __init__(self, book: Ledger) -> None:
        self.book = book
        self.told: list[SupervisorEvent] = []
        # The ends that wait for others' starts, with those others, and when they came; and the
        # commands of that time: whom these start next was about to start, and had yet to run.
        self._undecided: dict[str, tuple[int, list[Entry], frozenset[Command]]] = {}
        self.waits: dict[str, int] = {}  # since when, those who are to be decided about

    def saw(self, event: SupervisorEvent) -> None:
        """The supervisor's observer."""
        entry = self.book.entries.get(event.id)
        if isinstance(event, ShuttingDown) and (entry is None or not entry.policy.significant):
            # Gone between its end and that end's turn, and its id another's, perhaps: the end was
            # first.
            entry = self.book.former.get(event.id, entry)
        self.told.append(event)
        self.book.log(f"{type(event).__name__} {event.id} {_details(event)}")
        if entry is not None:
            self._enter(event, entry)
        else:
            self.book.violated(f"{event} tells of a child that never ran")

    def _enter(self, event: SupervisorEvent, entry: Entry) -> None:
        match event:
            case ChildStarted():
                if not (entry.alive and entry.up):
                    self.book.violated(f"{event.id} is said to be up")
            case ChildEnded():
                self.book.settle()
                self._ended(event, entry)
            case ChildRestarting():
                self._restarting(event, entry)
            case ChildUnstopped():
                self._unstopped(event, entry)
            case Escalated():
                self._escalated(event, entry)
            case ShuttingDown():
                self._shutting_down(event, entry)

    def _unstopped(self, event: ChildUnstopped, entry: Entry) -> None:
        self.book.simulation.result.unstopped += 1
        now = trio.current_time()
        entry.overdue_told = True
        since = now if entry.cancelled_at is None else entry.cancelled_at
        if not entry.alive or now - since < event.shutdown:
            self.book.violated(f"{event.id} is said to be overdue")

    def _ended(self, event: ChildEnded, entry: Entry) -> None:
        child, error = event.id, event.error
        entry.ended += 1
        if entry.alive:
            self.book.violated(f"{child} is said to have ended")
        if not is_same_error(error, told_error(entry.raised)):
            raised = told(entry.raised)
            self.book.violated(f"{child} raised {raised}, and is said to have: {told(error)}")
        if event.stopping:
            commanded = entry.dismissed or self.book.commands.may_stop(child)
            entry.owed = not (self.book.ending or commanded or entry.policy.restart == "temporary")
            entry.unsure = commanded
            return
        if entry.cancelled_at is not None:
            self.book.violated(f"{child} was stopped, and is said to have ended by itself")
        if not self.book.ending:
            self._ended_by_itself(child, entry, error)

    def _ended_by_itself(self, child: str, entry: Entry, error: BaseException | None) -> None:
        now = trio.current_time()
        entry.why = "start_failed" if not entry.up else "exit" if error is None else "crash"
        entry.due_since = None
        if not entry.up and entry.starter in {"command", "group"}:
            entry.due = entry.counts = entry.starter == "group"
            return
        optional = not entry.up and entry.starter == "maybe"
        if self.book.commands.is_unwanted(child):
            optional, entry.starter = True, "maybe"
        falls = any(self.book.shares(child, cause) for cause in self.book.causes)
        if not runs_again(entry.policy, error):
            entry.unsure = falls
            if not falls:
                self._ended_for_good(child, entry, optional=optional)
            return
        own, counts = spend(entry, now)
        if falls and counts:
            entry.starter, entry.own = "maybe", own  # unless its turn comes before
            return
        if self.book.group and counts:
            entry.due, entry.counts = not optional, True
            entry.own = own
            entry.due_since = self.book.facts
            return
        upward = (
            within([*self.book.upward, now], now, self.book.tree.period)
            if counts
            else self.book.upward
        )
        what = (
            "Escalated" if len(upward) > self.book.tree.intensity and counts else "ChildRestarting"
        )
        self.book.expected = Expected(child, what, optional, own, upward)

    def _ended_for_good(self, child: str, entry: Entry, *, optional: bool) -> None:
        if not entry.policy.significant:
            return
        others = [e for i, e in self.book.entries.items() if i != child and self._may_be_active(e)]
        if self.book.tree.auto_shutdown == "any_significant" or not others:
            open_ = [c for c in self.book.commands.open if c.name != "terminate_child"]
            self._undecided[child] = self.book.facts, [], frozenset(open_)
            if not optional:
                self.waits[child] = self.book.facts  # for those who are about to begin, if any
            optional |= bool(open_)
            if self.book.group:
                entry.finished = not self.book.commands.open
            else:
                self.book.expected = Expected(child, "ShuttingDown", optional)
        else:
            self._undecided[child] = self.book.facts, others, frozenset()
            if all(self._is_started(e) for e in others):
                self.waits[child] = self.book.facts

    def _is_started(self, entry: Entry) -> bool:
        """Whether a command waits for whether it comes up, and would be told if it did not."""
        commands = self.book.commands.naming(entry.policy.id)
        waiting = [c for c in commands if not c.gives_up()]
        return entry.alive and not entry.up and bool(waiting) and bool(entry.starter)

    def _is_active(self, child: str, entry: Entry) -> bool:
        running = entry.alive and entry.cancelled_at is None
        active = running or entry.is_to_run()
        asked = entry.dismissed or self.book.commands.naming(child, "terminate_child")
        asked = asked or self.book.commands.is_given_up(child)
        asked = asked or (not running and self.book.commands.takes_back(child))
        return entry.policy.significant and active and not asked

    def _may_be_stopping(self, child: str, entry: Entry) -> bool:
        # A supervisor that ends, or takes back the start of its own children, takes no notice.
        book = self.book.below(child)
        return book is not None and (book.ending or not entry.up)

    def _may_be_active(self, entry: Entry) -> bool:
        # In a group an end has its turn when a restart under way is done: whoever is being stopped
        # for that runs again by then, and whoever has ended while it was about to be.
        alive = entry.alive and (self.book.group or entry.cancelled_at is None)
        unsure = entry.starter == "maybe" or entry.unsure
        alive |= self.book.group and unsure and entry.kept
        return entry.policy.significant and (alive or entry.is_to_run())

    def _count(self, now: float) -> list[float]:
        """The supervisor's budget after one more restart."""
        return within([*self.book.upward, now], now, self.book.tree.period)

    def _fulfil(self, child: str, event: str) -> bool:
        """Whether this event is the expected one."""
        expected = self.book.expected
        if expected is None or (expected.id, expected.event) != (child, event):
            self.book.settle()
            return False
        self.book.expected = None
        if expected.own is not None:
            self.book.entries[child].own = expected.own
        if expected.upward is not None:
            self.book.upward = expected.upward
        return True

    def _restarting(self, event: ChildRestarting, entry: Entry) -> None:
        child, now, policy = event.id, trio.current_time(), entry.policy
        self.book.simulation.result.restarts += 1
        if self.book.ending:
            self.book.violated(f"{child} is restarted in a supervisor that ends")
        if policy.restart == "temporary":
            self.book.violated(f"{child} is temporary, and restarted")
        if event.reason == "exit" and policy.restart != "permanent":
            self.book.violated(f"{child} is {policy.restart}, ended normally, and is restarted")
        self._check_restarting(event, entry)
        entry.alone = self._fulfil(child, "ChildRestarting") and self.book.group
        if event.reason == "sibling":
            if not self.book.group:
                self.book.violated(f"{child} is restarted for a sibling's sake")
            self.book.causes.discard(child)  # its own restart came to nothing: it fell with another
        elif self.book.group and not entry.alone:
            self._group_restart(child, entry, now)
        elif not self.book.group and entry.alive:
            self.book.violated(f"{child} is restarted while it runs")
        entry.leave()
        entry.restarting, entry.told_at, entry.delay = True, now, event.delay

    def _check_restarting(self, event: ChildRestarting, entry: Entry) -> None:
        entry.restarts += 1
        if event.restarts != entry.restarts:
            self.book.violated(f"{event.id}: restart {entry.restarts} is told as {event.restarts}")
        due = 0.0
        if event.reason != "sibling":
            self.book.reasons[event.reason] += 1
            if event.reason != entry.why:
                self.book.violated(f"{event.id}: {entry.why} is told as {event.reason}")
            due = entry.rested = delay(entry, self.book.simulation.children.backoffs.part)
        if event.delay != due:
            self.book.violated(f"{event.id} rests {event.delay} s, not {due}")

    def _group_restart(self, child: str, entry: Entry, now: float) -> None:
        if not (entry.due or entry.starter == "maybe"):
            self.book.violated(f"{child} is restarted, and had not ended")
        self.book.upward = self._count(now)
        if len(self.book.upward) > self.book.tree.intensity:
            self.book.violated(
                f"{len(self.book.upward)} restarts in {self.book.tree.period} s, no escalation"
            )
        self.book.causes.add(child)
        again = entry.why == "start_failed" and entry.starter in {"group", "maybe"}
        for other, its in self.book.entries.items():
            if self.book.shares(other, child):
                due, its.due, its.finished = its.due, False, False  # it has no end of its own
                its.fell |= not its.alive
                revived = its.kept and (due or not again) and its.policy.restart != "temporary"
                its.owed |= revived and not its.alive
                its.unsure |= entry.starter == "maybe" and not its.alive

    def _escalated(self, event: Escalated, entry: Entry) -> None:
        self.book.simulation.result.escalations += 1
        if self.book.group:
            self.book.settle()
            self.book.upward = self._count(trio.current_time())
            if len(self.book.upward) <= self.book.tree.intensity:
                self.book.violated(f"gave up after {len(self.book.upward)} restarts")
            if not (entry.due or entry.starter == "maybe"):
                self.book.violated(f"gave up because of {event.id}, which had not ended")
        elif not self._fulfil(event.id, "Escalated"):
            self.book.violated(f"gave up because of {event.id}, too soon")
        gave_up = event.error
        if not isinstance(gave_up, RestartIntensityExceeded):
            self.book.violated(f"gave up with {gave_up!r}")
            return
        of = gave_up.supervisor, gave_up.child, gave_up.restarts
        if of != (self.book.path, event.id, len(self.book.upward)):
            self.book.violated(f"gave up with {gave_up!r} after {len(self.book.upward)} restarts")
        if not is_same_error(gave_up.__cause__, told_error(entry.raised)):
            self.book.violated(f"gave up from {gave_up.__cause__!r}, not from {told(entry.raised)}")
        self.book.escalated = gave_up
        self.book.ends_itself = True
        self.book.end()

    def _shutting_down(self, event: ShuttingDown, entry: Entry) -> None:
        self.book.simulation.result.shutdowns += 1
        as_expected = self._fulfil(event.id, "ShuttingDown")
        if not entry.policy.significant or self.book.tree.auto_shutdown == "never":
            self.book.violated(f"shuts down because of {event.id}, which is not significant")
        if entry.fell:
            self.book.violated(f"shuts down because of {event.id}, which fell with a sibling")
        others = [
            i
            for i, e in self.book.entries.items()
            if i != event.id and self._is_active(i, e) and not self._may_be_stopping(i, e)
        ]
        if self.book.tree.auto_shutdown == "all_significant" and others and not as_expected:
            self.book.violated(f"shuts down while {', '.join(others)} is active")
        if self.book.tree.auto_shutdown == "all_significant" and self.book.commands.brings_others():
            self.book.violated(f"shuts down because of {event.id}, and others are to be started")
        if not (as_expected or self.book.group):
            since, starting, more = self._waited_for(event.id)
            if not (starting or more) or any(e.wanted_since > since for e in starting):
                self.book.violated(f"shuts down because of {event.id}, which ended long ago")
        self.book.ends_itself = True
        self.book.end()

    def _waited_for(self, child: str) -> tuple[int, list[Entry], bool]:
        """Since when its end waits for others' starts, whose, and whether there may be more."""
        since, others, by = self._undecided.get(child, (0, [], frozenset()))
        entered = [e for e in self.book.entries.values() if e.entered_since > since]
        begun = [e for e in entered if e.policy.significant and e.entered_by & by]
        return since, others + begun, any(c.brings_significant() for c in by)


def _details(event: SupervisorEvent) -> str:
    match event:
        case ChildEnded():
            return f"error={told(event.error)} stopping={event.stopping}"
        case ChildRestarting():
            return f"{event.reason} after {event.delay} s"
        case _:
            return ""
