"""Draws a scenario from a seed: the tree, what its children do, and what is asked of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from .encounters import Encounters, with_nobody_significant
from .world import (
    AT_STOP,
    AUTO_SHUTDOWNS,
    COMMANDS,
    ENDS,
    LEVELS,
    LIVES,
    TICK,
    Life,
    Policy,
    Scenario,
    Step,
    Tree,
    Worker,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWAIT = "start_children_nowait"
STORIES = (  # commands that follow each other soon; a digit names whom they are about
    ("terminate_child 1", "delete_child 1", "start_child 1"),
    ("start_child 1", "start_child 1", "start_child 1"),
    ("start_child 1", "terminate_child 1", "start_child 2"),
    ("restart_child 1",) * 8,
    ("restart_child 1", "restart_child 1", "terminate_child 1"),
    ("start_children 1 2", "start_child 1"),
    ("start_children 1 2", "terminate_child 1", "delete_child 1", "start_child 1"),
)

CROWDS = (  # the same, where children start together
    ("start_children 0 1 2", "start_child 2"),
    ("start_children 0 1 2", "start_child 0", "start_child 1"),
    ("start_children 0 1 2", *("restart_child 0", "restart_child 1") * 4),
    ("start_children 0 1 2", "terminate_child 0", "start_child 0"),
)
NEW = ("n0", "n1", "n2")
"""Ids that steps bring: a few, so that later steps are about them as well."""
ENCOUNTERS = 0.5
"""The share of scenarios that have one."""


class _Maker:
    """Draws a scenario.

    How likely its features are is drawn first (swarm testing: Groce and others, 2012): what is
    rare everywhere never meets what is rare everywhere else.
    """

    def __init__(self, seed: int) -> None:
        self.random = draw = random.Random(seed)
        self.coarse = seed % 2 == 0  # few different times: much happens at once
        self.made = 0
        self.levels = draw.choices(range(1, LEVELS + 1), (35, 35, 20, 10))[0]
        self.backoffs = draw.choice((0.05, 0.2, 0.6))
        self.slow = draw.choice((0.1, 0.3, 0.7))  # starts that take a while
        self.careful = draw.choice((0.0, 0.0, 0.5))
        self.longest_start = draw.choice((1, 1, 4))
        self.bad_starts = draw.choice((1, 1, 4))
        self.impatience = draw.choice((0.1, 0.25, 0.6))
        self.stories = draw.choice((0.0, 0.3, 0.7))
        self.together = draw.choice((0.3, 0.3, 0.9))  # children that start so; in crowds, by steps
        self.commands = draw.choice(((14, 8, 6, 32, 28, 12), (14, 8, 6, 10, 56, 6)))
        self.significant = draw.choice((0.6, 0.6, 0.95))
        self.significance = draw.choice(((60, 20, 20), (60, 20, 20), (20, 20, 60)))
        self.intensities = draw.choice(
            ((5, 25, 30, 25, 15), (5, 25, 30, 25, 15), (0, 0, 10, 20, 70))
        )
        self.most_steps = draw.choice((8, 14, 24))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def time(self, most: float) -> float:
        step = 0.5 if self.coarse else TICK
        return self.random.randint(0, int(most / step)) * step

    def life(self, *, last: bool) -> Life:
        bad = self.bad_starts
        weights = (60, 14, 10, 5, 2, bad) if last else (12, 45, 18, 12 * bad, 4 * bad, bad)
        kind = self.random.choices(LIVES, weights)[0]
        slow = self.slow * (2 if kind.endswith("at_start") else 1)
        return Life(
            kind=kind,
            up=self.time(self.longest_start) if self.chance(slow) else 0.0,
            careful=self.chance(self.careful),
            after=0.0 if self.chance(0.15) else self.time(12),
            linger=self.time(8) if self.chance(0.25) else 0.0,
            at_stop=self.random.choices(AT_STOP, (70, 10, 8, 12))[0],
        )

    def policy(self, parent_shuts_down: bool, shutdown: float | None = None) -> Policy:
        self.made += 1
        restart = self.random.choices(("permanent", "transient", "temporary"), (55, 30, 15))[0]
        return Policy(
            id=f"c{self.made}",
            restart=restart,
            significant=parent_shuts_down
            and restart != "permanent"
            and self.chance(self.significant),
            shutdown=self.random.choice((0.0, 1.0, 5.0)) if shutdown is None else shutdown,
            budget=(self.random.randint(0, 2), self.random.choice((2.0, 5.0)))
            if self.chance(0.15)
            else None,
            backoff=self.random.choice(((0.25, 1.0), (0.25, 4.0), (1.0, 8.0), (4.0, 16.0)))
            if self.chance(self.backoffs)
            else None,
        )

    def worker(self, parent_shuts_down: bool, *, comes_up: float = 0.7) -> Worker:
        lives = [self.life(last=False) for _ in range(self.random.randint(0, 3))]
        first = self.life(last=True)
        if lives and lives[0].kind != "crash" and self.chance(comes_up):
            lives[0] = Life("crash", after=self.time(12))  # a tree that cannot start is dull
        return Worker(self.policy(parent_shuts_down), (*lives, first), ask=self.chance(0.15))

    def tree(self, level: int, *, parent_shuts_down: bool = False) -> Tree:
        strategy = self.random.choices(
            ("one_for_one", "one_for_all", "rest_for_one"), (40, 30, 30)
        )[0]
        auto = self.random.choices(AUTO_SHUTDOWNS, self.significance)[0]
        shuts_down = auto != "never"
        policy = self.policy(parent_shuts_down, float("inf")) if level > 1 else Policy("root")
        ordered = strategy != "one_for_one" or not self.chance(self.together)
        children: list[Worker | Tree] = []
        for _ in range(self.random.randint(2, 6 if level > 1 else 8)):
            nested = level < self.levels and (self.chance(0.3) or (level == 1 and not children))
            child = (
                self.tree(level + 1, parent_shuts_down=shuts_down)
                if nested
                else self.worker(shuts_down)
            )
            children.insert(self.random.randint(0, len(children)), child)
        return Tree(
            policy,
            strategy=strategy,
            intensity=self.random.choices((0, 1, 2, 3, 5), self.intensities)[0],
            period=self.random.choice((1.0, 2.0, 5.0, 10.0)),
            auto_shutdown=auto,
            ordered=ordered,
            nowait=not ordered and self.chance(0.5),
            linger=self.time(4) if self.chance(0.2) else 0.0,
            breaks=self.random.randint(1, 12) if self.chance(0.3) else 0,
            children=tuple(children),
        )

    def steps(self, supervisors: list[tuple[str, Tree]], until: float) -> Iterator[Step]:
        left = self.random.randint(0, self.most_steps)
        while left > 0:
            path, tree = self.random.choice(supervisors)
            ids = [child.policy.id for child in tree.children] * 2
            pool = [*ids, *NEW, "unknown"]
            at = self.time(until)
            for command, about in self.story(tree, pool):
                if command == "restart_child" and self.chance(0.5):
                    at = next(self.rests(tree, about[0]), at)
                step = self.step(at, command, path, tree, about)
                yield step
                # Or at the very moment at which it may be over.
                over = step.patience or (step.workers[-1].lives[0].up if step.workers else 0.0)
                at += over if self.chance(0.3) else self.time(2)
                left -= 1

    def rests(self, tree: Tree, name: str) -> Iterator[float]:
        """About when it first rests, if it does."""
        for child in tree.children:
            if isinstance(child, Worker) and child.policy.id == name and child.policy.backoff:
                life = child.lives[0]
                yield life.up + life.after + self.time(2)

    def story(self, tree: Tree, pool: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Commands, and whom they are about."""
        names = self.random.sample(sorted(set(pool)), 3)
        resting = [c.policy.id for c in tree.children if c.policy.backoff] or pool
        if self.chance(self.stories):
            story = self.random.choice(STORIES)
            if not tree.ordered and self.chance(self.together):
                story, names = self.random.choice(CROWDS), self.random.sample(NEW, 3)
            elif story[0].startswith("restart"):
                names[0] = self.random.choice(resting)
            for line in story:
                command, *about = line.split()
                yield command, tuple(names[int(number)] for number in about)
            return
        command = self.random.choices(COMMANDS, self.commands)[0]
        if command == NOWAIT and tree.ordered and self.chance(0.8):  # it would be refused
            command = "start_children"
        elif command.startswith("start") and not tree.ordered and self.chance(0.3):
            command = NOWAIT
        number = self.random.randint(1, 3) if command in {"start_children", NOWAIT} else 1
        if command == "restart_child" and self.chance(0.5):
            pool = resting
        if command.startswith("start"):
            pool = [*pool, *NEW * len(pool)]
        yield command, tuple(self.random.choice(pool) for _ in range(number))

    def step(self, at: float, command: str, path: str, tree: Tree, about: tuple[str, ...]) -> Step:
        patience = None
        if self.chance(self.impatience * (2 if command == "restart_child" else 1)):
            patience = self.time(self.random.choice((0.5, 1, 3)))
        if not command.startswith("start"):
            return Step(at, command, path, ids=about, patience=patience)
        shuts_down = tree.auto_shutdown != "never"
        workers = [self.worker(shuts_down, comes_up=0.2) for _ in about]
        if not tree.ordered and len(about) == len(NEW) and self.chance(0.5):
            workers = self.cast(workers)
        named = tuple(
            replace(worker, policy=replace(worker.policy, id=name))
            for worker, name in zip(workers, about, strict=True)
        )
        return Step(at, command, path, workers=named, patience=patience)

    def cast(self, workers: list[Worker]) -> list[Worker]:
        """The same with first lives in which one's start fails soon, and others take their time."""
        roles = [
            Life("steady", up=self.time(2), careful=True),
            Life("crash_at_start", up=self.time(1)),
            Life("steady", linger=self.time(8)),
            Life("exit", after=self.time(1)),
        ]
        return [
            replace(worker, lives=(role, *worker.lives))
            for worker, role in zip(workers, self.random.sample(roles, len(workers)), strict=True)
        ]


def scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    maker = _Maker(seed)
    tree = maker.tree(1)
    until = maker.random.choice((20.0, 40.0))
    steps = list(maker.steps(list(walk(tree)), until))
    if maker.chance(ENCOUNTERS):
        tree = with_nobody_significant(tree)
        steps += Encounters(maker.random, maker.time).steps(at=maker.time(5))
    return Scenario(
        seed=seed,
        tree=tree,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        end=maker.random.choice(ENDS),
        end_at=until + maker.time(5),
    )
