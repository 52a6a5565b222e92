"""What a run of many seeds was made of: a soak that covers nothing must show that it does."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from .world import COMMANDS, LIVES, STRAY, Tree, count, depth, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .run import Result


MEDIAN = 8  # children
NESTED = 0.5
ESCALATE = 0.1
KINDS = (
    "supervisor",
    "permanent",
    "transient",
    "temporary",
    "significant",
    "asked",
    "with a budget",
    "with a backoff",
    "lingering",
    "crash at stop",
)


class Distribution:
    """Counts."""

    def __init__(self) -> None:
        self.children: list[int] = []
        self.levels: Counter[int] = Counter()
        self.strategies: Counter[str] = Counter()
        self.what: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self.lives: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

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
        self.kinds.update(kind for _, supervisor in walk(tree) for kind in _kinds(supervisor))

    def update(self, other: Distribution) -> None:
        """All the runs of another one more."""
        self.children += other.children
        for name in ("levels", "strategies", "what", "commands", "lives", "kinds"):
            getattr(self, name).update(getattr(other, name))

    def share(self, what: str) -> float:
        """Of all trees."""
        return self.what[what] / len(self.children)

    @property
    def nested(self) -> float:
        """The share of trees with more than one level."""
        return 1 - self.levels[1] / len(self.children)

    def missing(self) -> list[str]:
        """Commands that were never done, lives that nobody lived, kinds of child not there."""
        commands = [c for c in COMMANDS if not self.commands[f"{c}: done"]]
        lives = [life for life in (*LIVES, STRAY) if not self.lives[life]]
        return commands + lives + [kind for kind in KINDS if not self.kinds[kind]]

    def shortcomings(self) -> list[str]:
        """What a soak must have had and these runs had not."""
        asked = {
            f"a median of {MEDIAN} children": median(self.children) >= MEDIAN,
            f"{NESTED:.0%} of the trees nested": self.nested >= NESTED,
            f"{ESCALATE:.0%} that escalate": self.share("escalate") >= ESCALATE,
        } | {f"any {name}": False for name in self.missing()}
        return [what for what, is_so in asked.items() if not is_so]

    def __str__(self) -> str:
        lines = [
            f"children: median {median(self.children):g}, at most {max(self.children)}",
            f"nested: {self.nested:.0%}; levels: {dict(sorted(self.levels.items()))}",
            f"root's strategy: {dict(self.strategies)}",
            *(f"{what}: {self.share(what):.0%}" for what in self.what),
            f"kinds of child: {dict(self.kinds)}",
            f"lives: {dict(self.lives)}",
            *(f"  {name}: {number}" for name, number in sorted(self.commands.items())),
            f"missing: {', '.join(self.missing()) or 'nothing'}",
        ]
        return "\n".join(lines)


def _kinds(supervisor: Tree) -> Iterator[str]:
    for child in supervisor.children:
        policy = child.policy
        yield policy.restart
        is_so = {"significant": policy.significant, "with a budget": policy.budget}
        is_so["with a backoff"] = policy.backoff
        if isinstance(child, Tree):
            is_so["supervisor"] = True
        else:
            is_so["asked"] = child.ask
            is_so["lingering"] = any(life.linger for life in child.lives)
            is_so["crash at stop"] = any(life.at_stop == "crash" for life in child.lives)
        yield from (kind for kind, holds in is_so.items() if holds)
