"""What is simulated: a tree, what its children do, and what is asked of it, all from one seed.

Everything here is plain frozen data whose `repr` is Python, so that a failing case prints as the
script that replays it. Times are multiples of 1/1024 s: their sums are exact, and a restart
exactly one period old can be told from one a little older.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK = 1 / 1024
LEVELS = 4

LIVES = ("steady", "crash", "exit", "crash_at_start", "exit_at_start", "never_starts")
AT_STOP = ("cancelled", "crash", "crash_beside", "return")  # beside: with its cancellation
COMMANDS = (
    "start_child",
    "start_children",
    "start_children_nowait",
    "terminate_child",
    "restart_child",
    "delete_child",
)
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")
ENDS = ("cancel", "return", "raise")


@dataclass(frozen=True)
class Life:
    """One incarnation: says `started` after `up` seconds, ends `after` seconds later."""

    kind: str = "steady"
    up: float = 0.0
    after: float = 0.0
    linger: float = 0.0  # how long it swallows its cancellation
    at_stop: str = "cancelled"


@dataclass(frozen=True)
class Policy:
    """What of a `ChildSpec` is data."""

    id: str
    restart: str = "permanent"
    significant: bool = False
    shutdown: float = 5.0
    budget: tuple[int, float] | None = None
    backoff: tuple[float, float] | None = None


@dataclass(frozen=True)
class Worker:
    """A leaf: its incarnations live `lives` one after another, and then the last for ever."""

    policy: Policy
    lives: tuple[Life, ...] = (Life(),)
    ask: bool = False


@dataclass(frozen=True)
class Tree:
    """A supervisor and its children."""

    policy: Policy
    strategy: str = "one_for_one"
    intensity: int = 1
    period: float = 5.0
    auto_shutdown: str = "never"
    ordered: bool = True
    nowait: bool = False
    linger: float = 0.0  # how long its block swallows its cancellation
    breaks: int = 0  # the event at which one of its observers raises; 0: none
    children: tuple[Worker | Tree, ...] = ()


@dataclass(frozen=True)
class Step:
    """A command to the supervisor at `path`, `at` seconds, cancelled after `patience` seconds."""

    at: float
    command: str
    path: str
    ids: tuple[str, ...] = ()
    workers: tuple[Worker, ...] = ()
    patience: float | None = None


@dataclass(frozen=True)
class Scenario:
    """All there is to one run."""

    seed: int
    tree: Tree
    steps: tuple[Step, ...] = ()
    end: str = "cancel"
    end_at: float = 60.0


def on_grid(seconds: float) -> float:
    """The nearest multiple of a tick."""
    return round(seconds / TICK) * TICK


def walk(tree: Tree, path: str = "root") -> Iterator[tuple[str, Tree]]:
    """Every supervisor of the tree with its path."""
    yield path, tree
    for child in tree.children:
        if isinstance(child, Tree):
            yield from walk(child, f"{path}/{child.policy.id}")


def count(tree: Tree) -> int:
    """How many children the tree has, on all levels."""
    return sum(1 + (count(c) if isinstance(c, Tree) else 0) for c in tree.children)


def depth(tree: Tree) -> int:
    """How many levels of supervisors the tree has."""
    return 1 + max((depth(c) for c in tree.children if isinstance(c, Tree)), default=0)


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
        self.longest_start = draw.choice((1, 1, 4))
        self.bad_starts = draw.choice((1, 1, 4))
        self.impatience = draw.choice((0.1, 0.25, 0.6))
        self.persistence = draw.choice((0.0, 0.3, 0.7))  # commands that follow up another
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
        return Life(
            kind=self.random.choices(LIVES, weights)[0],
            up=self.time(self.longest_start) if self.chance(self.slow) else 0.0,
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
            significant=parent_shuts_down and restart != "permanent" and self.chance(0.6),
            shutdown=self.random.choice((0.0, 1.0, 5.0)) if shutdown is None else shutdown,
            budget=(self.random.randint(0, 2), self.random.choice((2.0, 5.0)))
            if self.chance(0.15)
            else None,
            backoff=self.random.choice(((0.25, 1.0), (0.25, 4.0), (1.0, 8.0)))
            if self.chance(self.backoffs)
            else None,
        )

    def worker(self, parent_shuts_down: bool) -> Worker:
        lives = [self.life(last=False) for _ in range(self.random.randint(0, 3))]
        first = self.life(last=True)
        if lives and lives[0].kind != "crash" and self.chance(0.7):
            lives[0] = Life("crash", after=self.time(12))  # a tree that cannot start is dull
        return Worker(self.policy(parent_shuts_down), (*lives, first), ask=self.chance(0.15))

    def tree(self, level: int, *, parent_shuts_down: bool = False) -> Tree:
        strategy = self.random.choices(
            ("one_for_one", "one_for_all", "rest_for_one"), (40, 30, 30)
        )[0]
        auto = self.random.choices(AUTO_SHUTDOWNS, self.significance)[0]
        shuts_down = auto != "never"
        policy = self.policy(parent_shuts_down, float("inf")) if level > 1 else Policy("root")
        ordered = strategy != "one_for_one" or self.chance(0.75)
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

    def step(self, supervisors: list[tuple[str, Tree]], until: float) -> Step:
        path, tree = self.random.choice(supervisors)
        command = self.random.choices(COMMANDS, (14, 8, 6, 32, 28, 12))[0]
        shuts_down = tree.auto_shutdown != "never"
        # New ones are addressed by later steps as well, so their ids come from a small pool.
        pool = [child.policy.id for child in tree.children] * 2 + ["n0", "n1", "n2", "unknown"]
        workers: tuple[Worker, ...] = ()
        ids: tuple[str, ...] = ()
        if command.startswith("start"):
            number = 1 if command == "start_child" else self.random.randint(1, 3)
            workers = tuple(self.named(shuts_down, pool) for _ in range(number))
        else:
            ids = (self.random.choice(pool),)
        patience = self.time(3) if self.chance(self.impatience) else None
        return Step(self.time(until), command, path, ids, workers, patience)

    def steps(self, supervisors: list[tuple[str, Tree]], until: float) -> Iterator[Step]:
        before: Step | None = None
        for _ in range(self.random.randint(0, self.most_steps)):
            if before is not None and self.chance(self.persistence):
                step = self.following(before, supervisors, until)
            else:
                step = self.step(supervisors, until)
            before = step
            yield step

    def following(self, before: Step, supervisors: list[tuple[str, Tree]], until: float) -> Step:
        """Soon after another, and about one whom that is about."""
        same = [found for found in supervisors if found[0] == before.path]
        step = self.step(same, until)
        name = self.random.choice(before.ids or tuple(w.policy.id for w in before.workers))
        *others, last = step.workers or (None,)
        if last is not None:
            last = replace(last, policy=replace(last.policy, id=name))
            step = replace(step, workers=(*others, last))
        else:
            step = replace(step, ids=(name,))
        return replace(step, at=before.at + self.time(2))

    def named(self, shuts_down: bool, pool: list[str]) -> Worker:
        worker = self.worker(shuts_down)
        name = self.random.choice(("n0", "n1", "n2", self.random.choice(pool)))
        return replace(worker, policy=replace(worker.policy, id=name))


def scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    maker = _Maker(seed)
    tree = maker.tree(1)
    until = maker.random.choice((20.0, 40.0))
    supervisors = list(walk(tree))
    return Scenario(
        seed=seed,
        tree=tree,
        steps=tuple(sorted(maker.steps(supervisors, until), key=lambda step: step.at)),
        end=maker.random.choice(ENDS),
        end_at=until + maker.time(5),
    )
