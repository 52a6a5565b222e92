"""What is simulated: a tree, what its children do, and what is asked of it.

Everything here is plain frozen data whose `repr` is Python, so that a failing case prints as the
script that replays it. Times are multiples of 1/1024 s: their sums are exact, and a restart
exactly one period old can be told from one a little older.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK = 1 / 1024
LEVELS = 4

LIVES = ("steady", "crash", "exit", "crash_at_start", "exit_at_start", "never_starts")
STRAY = "crash with a stray Cancelled"  # some of those that crash
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
    careful: bool = False  # once begun it comes up, though it is cancelled meanwhile
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
