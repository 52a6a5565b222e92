"""The commands that a supervisor has yet to answer, in its book, and what each may have done."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from .refusals import check_error
from .rules import Entry, runs_again, told, told_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .ledger import Ledger
    from .world import Policy, Tree, Worker


@dataclass(eq=False)
class Command:
    """A command that has not been answered."""

    name: str
    ids: tuple[str, ...]
    nodes: dict[str, Worker | Tree]
    begun: dict[str, list[int]] = field(default_factory=dict)
    came_up: set[str] = field(default_factory=set)
    given_at: float = field(default_factory=trio.current_time)
    since: int = 0  # how many facts there were when it was given
    # Of those it began; two commands may have begun the same, one after the other.
    errors: dict[str, list[BaseException | None]] = field(default_factory=dict)
    failed_at: float | None = None  # when the first of these ended that had not come up
    refused: bool = False  # perhaps: another had an id that it came to
    status: Any = field(default_factory=lambda: trio.lowlevel.current_task()._cancel_status)
    stops: Entry | None = None  # whom it is to stop at once: one that starts
    stops_number: int = 0  # and which incarnation

    def brings_significant(self) -> bool:
        """Whether an end may wait for it."""
        return self.name == "restart_child" or any(
            node.policy.significant for node in self.nodes.values()
        )

    def is_to_bring_significant(self) -> bool:
        """Whether it has yet to come to such a child."""
        return any(n.policy.significant and i not in self.begun for i, n in self.nodes.items())

    def gives_up(self) -> bool:
        """Whether it has failed, or is cancelled, though it may not have noticed."""
        failed = self.failed_at is not None or self.refused
        return failed or self.status.effectively_cancelled


class Commands:
    """Enters the commands to one supervisor in its book."""

    def __init__(self, book: Ledger) -> None:
        self.book = book
        self.open: list[Command] = []
        self._excused: dict[str, float] = {}

    def naming(self, child: str, *names: str) -> list[Command]:
        return [c for c in self.open if child in c.ids and (not names or c.name in names)]

    def bringing(self, child: str, policy: Policy) -> list[Command]:
        """Those that start it: others may want its id."""
        starts = self.naming(child, "start_child", "start_children")
        return [c for c in starts if c.nodes[child].policy is policy]

    def may_stop(self, child: str) -> bool:
        """Whether a command may be what stops it."""
        names = ("start_child", "start_children", "terminate_child", "restart_child")
        return bool(self.naming(child, *names)) or self.has_just_stopped(child)

    def has_just_stopped(self, child: str) -> bool:
        """Whether a command that may be what stops it is over in this instant."""
        return self._excused.get(child) == trio.current_time()

    def takes_back(self, child: str) -> bool:
        """Whether a start that brought it with others has failed, and is not over yet.

        The last started is stopped first: one that rests may have had its turn, which nobody sees.
        """
        for command in self.naming(child, "start_children"):
            ended = [i for i in command.begun if i not in command.came_up and i in command.errors]
            if ended and child not in ended and self.brought(command, child):
                return True
        return False

    def was_to_be_taken_back(self, child: str) -> bool:
        """Whether a start that brought it failed before this instant, and is not over yet."""
        now = trio.current_time()
        return any(
            command.failed_at is not None
            and command.failed_at < now
            and self.brought(command, child)
            for command in self.naming(child, "start_children")
        )

    def is_unwanted(self, child: str) -> bool:
        """Whether its start may be taken back by now: then it stays down."""
        return any(
            command.gives_up() and self.brought(command, child)
            for command in self.naming(child, "start_children")
        )

    def brings_others(self) -> bool:
        """Whether a start goes on that has yet to come to a significant child."""
        return not self.book.group and any(
            command.begun and command.is_to_bring_significant() and not command.gives_up()
            for command in self.open
            if command.name == "start_children"
            and not any(map(self.may_be_terminated, command.ids))
        )

    def may_be_terminated(self, child: str) -> bool:
        return bool(self.naming(child, "terminate_child")) or self.has_just_stopped(child)

    def is_given_up(self, child: str) -> bool:
        """Whether it may be stopped by now, as who starts it does not want it any more."""
        alone = self.naming(child, "start_child", "restart_child")
        return self.is_unwanted(child) or any(c.gives_up() and child in c.begun for c in alone)

    def came_up(self, child: str) -> None:
        """Enter it with those who may have started it, which now come to their next ids."""
        for command in self.naming(child):
            command.came_up.add(child)
            taken = any(self._may_be_taken(i, command) for i in command.ids)
            command.refused |= command.name == "start_children" and taken

    def _may_be_taken(self, child: str, command: Command) -> bool:
        """Whether a start that has yet to come to this one may find that another has its id."""
        if child in command.begun:
            return False
        entry = self.book.entries.get(child)
        is_there = entry is not None and (entry.alive or entry.kept or entry.is_to_run())
        return is_there or len(self.naming(child, "start_child", "start_children")) > 1

    def brought(self, command: Command, child: str) -> bool:
        """Whether the command brought it: that one may be gone, and its id another's."""
        entry, node = self.book.entries.get(child), command.nodes.get(child)
        return entry is not None and node is not None and entry.policy is node.policy

    @contextmanager
    def given(
        self,
        name: str,
        ids: tuple[str, ...] = (),
        nodes: Sequence[Worker | Tree] = (),
    ) -> Iterator[Callable[[Any], None]]:
        """Around a command; what is yielded takes its answer."""
        by_id = {node.policy.id: node for node in nodes}
        command = Command(name, ids or tuple(n.policy.id for n in nodes), by_id)
        self.book.log(f"{name} {', '.join(command.ids)}")
        self.book.settle()
        command.since = self.book.facts
        self.open.append(command)
        self._meet(command)
        self._ask(command)
        stops, given_up = True, False
        try:
            yield lambda given: self._answered(command, given)
            stops = name == "terminate_child"  # a start that was done stops nobody any more
        except BaseException as error:
            # One that is given up may stop whom it had begun, though that had yet to run.
            given_up = isinstance(error, trio.Cancelled)
            self.book.log(f"{name} {', '.join(command.ids)}: {told(error)}")
            check_error(self.book, command, error)
            self._failed(command, error)
            raise
        finally:
            self.book.settle()
            self.open.remove(command)
            if stops:  # what was refused stops nobody
                named = given_up or name == "terminate_child"
                ids = command.ids if named else command.begun
                self._excused |= dict.fromkeys(ids, trio.current_time())

    def _failed(self, command: Command, error: BaseException) -> None:
        for child in command.ids:
            entry = self.book.entries.get(child)
            if entry is None:
                continue
            if isinstance(error, trio.Cancelled) and self._is_nobodys(command, child):
                self.book.violated(f"{child} failed to start, and nobody is told")
            if command.name == "terminate_child":
                # In a group it is not started meanwhile, so that its turn finds it stopped.
                out = self.book.group and not entry.alive and entry.is_to_run()
                # Without turns it was told at once to stop, though it may not have noticed yet.
                out |= not self.book.group and entry.alive
                entry.dismissed |= out or (entry.alive and self.book.is_busy(child, entry))
            elif child in command.begun and self.brought(command, child):
                entry.leave()  # rolled back, or never up
                entry.kept = False
                self.book.causes.discard(child)
            elif command.name == "restart_child" and self._took_back(command, child, error):
                entry.leave()
            elif command.name == "restart_child" and entry.alive and entry.starter == "maybe":
                entry.starter = self._starter_without(command, child)

    def _is_nobodys(self, command: Command, child: str) -> bool:
        """Whether a rest was ended by the command alone, and its start failed: who is told?"""
        entry = self.book.entries[child]
        failed = not (entry.alive or entry.up or entry.restarting or entry.cancelled_at is not None)
        mine = command.name == "restart_child" and entry.number in command.begun.get(child, ())
        others = [c for c in self.naming(child) if c is not command]
        may_run = runs_again(entry.policy, entry.raised) and not (self.book.group or others)
        hurried = entry.starter == "maybe"
        return failed and mine and hurried and may_run and not self.book.ending

    def _starter_without(self, command: Command, child: str) -> str | None:
        """Who is told if it does not come up, now that this command is not."""
        if self.book.group and not self.book.entries[child].alone:
            # It was not the command's turn yet, or the child would have ended: a sibling's restart
            # began it, unless another command did.
            others = self.naming(child, "restart_child") != [command]
            return "maybe" if others else "group"
        # Unless it was refused, it had ended the rest: the restart is the policy's again.
        others = [c for c in self.naming(child, "restart_child") if c is not command]
        return None if child in command.begun and not others else "maybe"

    def _took_back(self, command: Command, child: str, error: BaseException) -> bool:
        """Whether it was started by the command alone, which is cancelled: that stops it again.

        Also if it had come up and crashed in that instant, and rests by now.
        """
        entry = self.book.entries[child]
        # In a group it may be another's, while this one waits for its turn.
        now = not entry.alive and entry.over_at == trio.current_time()
        return isinstance(error, trio.Cancelled) and now and command in entry.restarted_by

    def over(self, child: str, entry: Entry) -> None:
        """A child's incarnation is over: those who began it are told why."""
        for command in self.open:
            if entry.number in command.begun.get(child, ()):
                command.errors.setdefault(child, []).append(told_error(entry.raised))
                if child not in command.came_up and command.failed_at is None:
                    command.failed_at = trio.current_time()

    def _meet(self, command: Command) -> None:
        """Others that are about to come to an id of the new one's find it taken, perhaps."""
        for other in self.open:
            about = set(other.ids).intersection(command.nodes).difference(other.begun)
            if other is not command and about and other.came_up.issuperset(other.begun):
                other.refused |= other.name == "start_children"

    def _ask(self, command: Command) -> None:
        for child in command.ids:
            entry = self.book.entries.get(child)
            if entry is not None and command.name == "terminate_child":
                if entry.alive and not entry.up:
                    command.stops, command.stops_number = entry, entry.begun
                if not self.book.group:
                    entry.leave()
                    entry.kept &= entry.alive or entry.policy.restart != "temporary"
            if entry is not None and command.name == "restart_child":
                entry.hurried = True

    def _answered(self, command: Command, given: Any) -> None:
        self.book.log(f"{command.name} {', '.join(command.ids)}: {given}")
        match command.name:
            case "start_child" | "start_children" | "restart_child":
                ran = all(number in command.begun.get(child, ()) for child, number in given)
                if not ran or tuple(child for child, _ in given) != command.ids:
                    self.book.violated(f"{command.name} gave {given}, not of {command.begun}")
            case "start_children_nowait":
                for child, node in command.nodes.items():
                    self.book.remove(child)
                    now = trio.current_time()
                    self.book.entries[child] = Entry(node.policy, entered_at=now, spawned=True)
            case "terminate_child":
                self._terminated(command)
            case _:
                entry = self.book.remove(command.ids[0])
                # Where all ends, one that rests ends with its rest: nobody needs to stop it.
                rests = not (self.book.group or self.book.ending)
                if entry is not None and (entry.alive or (entry.restarting and rests)):
                    self.book.violated(f"{command.ids[0]} is deleted, and runs")

    def _terminated(self, command: Command) -> None:
        child = command.ids[0]
        entry = self.book.entries.get(child)
        if entry is None or child in command.begun:
            return
        if entry.alive:
            self.book.violated(f"{child} is terminated, and runs")
        if (
            not self.book.ending
            and entry.due
            and (entry.due_since or command.since) < command.since
        ):
            self.book.violated(f"{child} is terminated before its end had its turn")
        entry.leave()
        self.book.causes.discard(child)
