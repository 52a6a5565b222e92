"""What a run of many seeds was made of: a soak that covers nothing must show that it does."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from .world import COMMANDS, LIVES, count, depth

if TYPE_CHECKING:
    from .run import Result


class Distribution:
    """Counts."""

    def __init__(self) -> None:
        self.children: list[int] = []
        self.levels: Counter[int] = Counter()
        self.strategies: Counter[str] = Counter()
        self.what: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.lives: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """One more run."""
        tree = result.scenario.tree
        self.children.append(count(tree))
        self.levels[depth(tree)] += 1
        self.strategies[tree.strategy] += 1
        self.what["escalate"] += result.escalations > 0
        self.what["shut down"] += result.shutdowns > 0
        self.what["restart somebody"] += result.restarts > 0
        self.what["report somebody unstopped"] += result.unstopped > 0
        self.commands.update(result.commands)
        self.lives.update(result.lives)

    def share(self, what: str) -> float:
        """Of all trees."""
        return self.what[what] / len(self.children)

    @property
    def nested(self) -> float:
        """The share of trees with more than one level."""
        return 1 - self.levels[1] / len(self.children)

    def missing(self) -> list[str]:
        """Commands that were never done, and kinds of life that nobody lived."""
        commands = [c for c in COMMANDS if not self.commands[f"{c}: done"]]
        return commands + [life for life in LIVES if not self.lives[life]]

    def __str__(self) -> str:
        lines = [
            f"children: median {median(self.children):g}, at most {max(self.children)}",
            f"nested: {self.nested:.0%}; levels: {dict(sorted(self.levels.items()))}",
            f"root's strategy: {dict(self.strategies)}",
            *(f"{what}: {self.share(what):.0%}" for what in self.what),
            f"lives: {dict(self.lives)}",
            *(f"  {name}: {number}" for name, number in sorted(self.commands.items())),
            f"missing: {', '.join(self.missing()) or 'nothing'}",
        ]
        return "\n".join(lines)
