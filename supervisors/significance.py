"""Significant children: whose end is their supervisor's.

An end that the start of others may outweigh is judged when that start is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .policy import shuts_down
from .spec import AutoShutdown, ShuttingDown
from .starts import Undecided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .child import Child
    from .runner import Runner
    from .starts import Starting


class Significance:
    """Judges the ends of one supervisor's significant children."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.calls: set[Starting] = set()  # that start new children, and are under way
        self._undecided: Undecided | None = None  # the last
        self._latest: Child | None = None  # of those that are significant and up

    def ended(self, child: Child) -> None:
        """A child ended by itself and does not run again: a significant one may end us all."""
        if child.spec.significant and not self._is_outlived(child):
            self._judge(child, [other for other in self._significant() if other is not child])

    def wait_for(self, child: Child, starting: Starting) -> None:
        """`child` is started again: if its end is undecided, whether it comes up decides, too."""
        if self._undecided is not None and self._undecided.child is child:
            self._undecided.wait_for(starting)

    def decide(self, starting: Starting) -> None:
        """A start is over, well or not: judge the end that has waited for it."""
        undecided = self._undecided
        if undecided is None or starting not in undecided.starts or self._runner.stopping:
            return
        self._undecided = None
        if not undecided.is_void:
            self._judge(undecided.child, self._significant())

    def _is_outlived(self, child: Child) -> bool:
        """Whether an end changes nothing, because another has to end as well that is up.

        Of thousands that end together nearly all are: the same one is looked at first.
        """
        if self._runner.auto_shutdown is not AutoShutdown.ALL_SIGNIFICANT:
            return False
        latest = self._latest
        if latest is None or latest is child or not latest.is_significant() or latest.starting:
            others = (one for one in reversed(self._runner.children.values()) if one is not child)
            up = (one for one in others if one.is_significant() and one.starting is None)
            self._latest = next(up, None)
        return self._latest is not None

    def _significant(self) -> list[Child]:
        return [child for child in self._runner.children.values() if child.is_significant()]

    def _judge(self, child: Child, others: Sequence[Child]) -> None:
        """The end of a significant child, when these others are active."""
        coming = [call for call in self.calls if call.brings_significant()]
        if shuts_down(self._runner.auto_shutdown, last=not (others or coming)):
            self._runner.observers.tell(ShuttingDown(self._runner.name, child.spec.id))
            self._runner.end_all()
            return
        starts = [other.starting for other in others if other.starting is not None]
        if self._runner.group is None and len(starts) == len(others):
            # They may fail to start. OTP would ask after that: it starts one at a time.
            self._undecided = Undecided(child, starts + coming)
