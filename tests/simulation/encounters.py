"""Commands and ends that meet in one instant, or within the time that a start takes.

What has to happen in an order of its own, each thing at its moment, all but never comes of times
that are drawn one by one. Each encounter is such an order, of which its details are drawn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .world import Life, Policy, Step, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .world import Tree

IDS = ("m0", "m1", "m2")
"""Of children that nobody else brings."""


class Encounters:
    """Draws one, for the root."""

    def __init__(self, draw: Random, time: Callable[[float], float]) -> None:
        self.random = draw
        self.time = time  # up to so many seconds

    def steps(self, at: float) -> tuple[Step, ...]:
        """Of any."""
        encounters = {  # and how often
            self.given_up: 1,
            self.ended_in_time: 1,
            self.hurried: 2,
            self.taken_back: 1,
            self.started_twice: 2,
            self.left_early: 1,
            self.restarted_in_vain: 1,
            self.crowded: 1,
        }
        [encounter] = self.random.choices([*encounters], [*encounters.values()])
        return tuple(encounter(at))

    def given_up(self, at: float) -> list[Step]:
        """A start is given up as its child comes up and leaves, and others begin it."""
        up = self.time(2)
        lives = Life("exit", up=up), self.some_life()
        start = self.random.choice(("start_child", "start_children", "restart_child"))
        if start == "restart_child":
            child = self.child("m0", Life(), *lives, restart="transient")
            before = [_starts(at, child), _about("m0", "terminate_child", at + 1)]
            at += 2
            first = _about("m0", start, at, up)
        else:
            child = self.child("m0", *lives, restart="transient")
            before, first = [], Step(at, start, "root", workers=(child,), patience=up)
        begins = [_about("m0", "restart_child", at + up, self.patience()) for _ in self.a_few()]
        return [*before, first, *begins]

    def ended_in_time(self, at: float) -> list[Step]:
        """A child ends at the very end of its budget, and others begin it."""
        shutdown = self.random.choice((0.0, 1.0, 5.0))
        child = self.child("m0", Life("steady", linger=shutdown), shutdown=shutdown)
        told = at + self.time(2)
        ends = [_about("m0", "terminate_child", told, self.patience()) for _ in self.a_few()]
        again = [_about("m0", "restart_child", told + shutdown) for _ in self.a_few()]
        return [_starts(at, child), *ends, *again]

    def hurried(self, at: float) -> list[Step]:
        """A significant child ends while another is hurried, which may not come up.

        Or who hurries it gives up in the instant in which that is known.
        """
        crash, rest, left = self.time(2), self.time(3), self.time(2)
        up = left + self.time(2)
        slow = self.random.choice((Life("crash_at_start", up=up), self.some_life(up=up)))
        rests = self.child(
            "m0",
            Life("crash", after=crash),
            slow,
            restart="transient",
            significant=True,
            backoff=(4.0, 16.0),
        )
        ends = Life("exit", after=crash + rest + left)
        leaves = self.child("m1", ends, restart="transient", significant=True)
        patience = self.random.choice((self.patience(), slow.up))
        hurry = _about("m0", "restart_child", at + crash + rest, patience)
        return [_starts(at, rests), _starts(at, leaves), hurry]

    def taken_back(self, at: float) -> list[Step]:
        """A significant child ends before a start fails that brings another, which takes time."""
        end = self.random.choice((0.0, self.time(2)))  # or before its starter hears of it
        fails, late = self.time(2), self.time(2)
        leaves = self.child("m2", Life("exit", after=end), restart="transient", significant=True)
        careful = Life("steady", up=end + fails + late, careful=self.random.random() < 0.7)
        crew = [
            self.child("m0", careful, significant=True, restart="transient"),
            self.child("m1", Life("crash_at_start", up=end + fails)),
        ]
        self.random.shuffle(crew)
        if self.random.random() < 0.3:  # of one start
            return [_starts(at, leaves, *crew)]
        return [_starts(at, leaves), _starts(at, *crew)]

    def started_twice(self, at: float) -> list[Step]:
        """Of a start that fails one left before, and others begin it, and give it up."""
        begun, fails, late = self.time(2), self.time(2), self.time(2)
        careful = self.random.random() < 0.5
        steady = Life(up=fails + late, linger=self.time(4), careful=careful)
        again = self.random.choice((steady, self.some_life(up=fails + late)))
        crew = [
            self.child("m0", Life("steady", linger=self.time(8))),
            self.child("m1", Life("exit"), again, restart="transient"),
        ]
        self.random.shuffle(crew)
        crew.append(self.child("m2", Life("crash_at_start", up=begun + fails)))
        patience = self.random.choice((None, fails + self.time(2)))
        begins = [_about("m1", "restart_child", at + begun, patience) for _ in self.a_few()]
        return [_starts(at, *crew), *begins]

    def restarted_in_vain(self, at: float) -> list[Step]:
        """A significant child ends while another starts, and both starts may come to nothing."""
        policy: dict[str, Any] = {"restart": "transient", "significant": True}
        end, late = self.time(1), self.time(1)
        leaves = self.child(
            "m0", Life("exit", after=end), self.some_life(up=self.time(3)), **policy
        )
        other = self.child("m1", self.some_life(up=end + late + self.time(2)), **policy)
        begins = _about("m0", "restart_child", at + end + late, self.patience())
        return [_starts(at, leaves), _starts(at, other), begins]

    def left_early(self, at: float) -> list[Step]:
        """A significant child ends, and another of its call has yet to be begun."""
        policy: dict[str, Any] = {"restart": "transient", "significant": True}
        leaves = self.child("m0", Life("exit", after=self.time(2)), **policy)
        slow = self.child("m1", Life(up=self.time(4)))
        last = self.child("m2", self.some_life(up=self.time(1)), Life(), **policy)
        return [_starts(at, leaves, slow, last)]

    def crowded(self, at: float) -> list[Step]:
        """All that can be asked, about three children whose lives turn in the same few instants."""
        steps = []
        for _ in range(self.random.randint(4, 12)):
            commands = ("start_child", "start_children", "terminate_child", "restart_child")
            command = self.random.choices(commands, (20, 20, 25, 35))[0]
            then, patience = at + self.instant(), self.random.choice((None, None, self.instant()))
            if command.startswith("start"):
                names = self.random.sample(IDS, 1 if command == "start_child" else 2)
                crew = tuple(self.restless(name) for name in names)
                steps.append(Step(then, command, "root", workers=crew, patience=patience))
            else:
                steps.append(_about(self.random.choice(IDS), command, then, patience))
        return steps

    def instant(self) -> float:
        return self.random.choice((0.0, 0.0, 1.0, 1.0, 2.0, 3.0))

    def restless(self, name: str) -> Worker:
        lives = [
            replace(
                self.some_life(up=self.instant(), linger=self.instant()),
                after=self.instant(),
                careful=self.random.random() < 0.2,
            )
            for _ in range(4)
        ]
        restart = self.random.choice(("permanent", "transient", "temporary"))
        significant = restart != "permanent" and self.random.random() < 0.7
        backoff = self.random.choice((None, (1.0, 2.0)))
        shutdown = self.random.choice((0.0, 1.0, 2.0))
        return self.child(
            name,
            *lives,
            restart=restart,
            significant=significant,
            shutdown=shutdown,
            backoff=backoff,
        )

    # -- details ------------------------------------------------------------------------------

    def a_few(self) -> range:
        return range(self.random.randint(1, 3))

    def patience(self) -> float | None:
        return self.time(2) if self.random.random() < 0.3 else None

    def some_life(self, *, up: float = 0.0, linger: float = 0.0, careful: bool = False) -> Life:
        kinds = ("steady", "exit_at_start", "crash_at_start", "exit", "never_starts")
        kind = self.random.choices(kinds, (30, 30, 30, 9, 1))[0]
        return Life(kind, up=up, linger=linger, careful=careful)

    def child(
        self,
        name: str,
        *lives: Life,
        restart: str = "permanent",
        significant: bool = False,
        shutdown: float = 5.0,
        backoff: tuple[float, float] | None = None,
    ) -> Worker:
        policy = Policy(name, restart, significant, shutdown, None, backoff)
        return Worker(policy, lives, ask=self.random.random() < 0.1)


def _starts(at: float, *workers: Worker) -> Step:
    command = "start_children" if len(workers) > 1 else "start_child"
    return Step(at, command, "root", workers=workers)


def _about(name: str, command: str, at: float, patience: float | None = None) -> Step:
    return Step(at, command, "root", ids=(name,), patience=patience)


def with_nobody_significant(tree: Tree) -> Tree:
    """The same, which shuts down when those who meet have ended."""
    children = tuple(
        replace(child, policy=replace(child.policy, significant=False)) for child in tree.children
    )
    return replace(tree, auto_shutdown="all_significant", children=children)
