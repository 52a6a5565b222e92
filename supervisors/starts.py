"""Starts under way, and what waits for how they go: their starters, and ends not judged yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ..errors import ChildStartFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .child import Child
    from .spec import ChildSpec


class Starting:
    """What the one who starts children waits for: all their first values, or an end without one.

    One for each call, which knows the specs of those that are to come, too.
    """

    __slots__ = (
        "children",
        "error",
        "failed",
        "left",
        "over",
        "specs",
        "undecided",
        "values",
        "was_stopped",
    )

    def __init__(self, specs: Sequence[ChildSpec] = ()) -> None:
        self.specs = specs  # of new children, if it starts such
        self.children: list[Child] = []  # that were begun of these, as yet
        self.expect(1)
        # Kept for the starter: by the time it runs, they may have crashed and begun anew.
        self.values: dict[Child, Any] = {}
        self.undecided: Undecided | None = None
        self.failed: Child | None = None  # the first
        self.error: BaseException | None = None  # of its end
        self.was_stopped = False  # rather than ended by itself

    def expect(self, count: int) -> None:
        """Be over when so many more are up."""
        self.left = count
        self.over = trio.Event()

    def brings_significant(self) -> bool:
        """Whether a significant child is still to be begun."""
        return any(spec.significant for spec in self.specs[len(self.children) :])

    def came_up(self, child: Child, value: Any) -> None:
        """Keep its value; wake who waits if it was the last."""
        self.values[child] = value
        if self.undecided is not None and child.spec.significant:
            self.undecided.is_void = True
        self.left -= 1
        if self.left == 0:
            self.over.set()

    def fail(self, child: Child, error: BaseException | None) -> None:
        """Wake who waits: one ended, from `error`, or will not come."""
        if self.failed is None:
            self.failed, self.error, self.was_stopped = child, error, child.was_stopped
            self.over.set()

    def check(self) -> None:
        """Raise `ChildStartFailed` if one has failed."""
        if self.failed is not None:
            raise ChildStartFailed(self.failed.spec.id, stopped=self.was_stopped) from self.error


class Undecided:
    """The end of a significant child that waits for whether other significant ones come up."""

    __slots__ = ("child", "is_void", "starts")

    def __init__(self, child: Child, starts: Iterable[Starting]) -> None:
        self.child = child
        self.is_void = False  # one did
        self.starts: set[Starting] = set()
        for starting in starts:
            self.wait_for(starting)

    def wait_for(self, starting: Starting) -> None:
        """Wait for these as well."""
        self.starts.add(starting)
        starting.undecided = self
