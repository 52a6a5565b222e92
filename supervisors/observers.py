"""Those who are told what happens to children."""

from __future__ import annotations

import logging
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .spec import SupervisorEvent, SupervisorObserver

logger = logging.getLogger("moorings.supervisors")


class Observers(list["SupervisorObserver"]):
    """Callables that see every event. While there are none, no event is made.

    Raises:
        TypeError: one cannot be called, or would have to be awaited.
    """

    def __init__(self, observers: Iterable[SupervisorObserver]) -> None:
        super().__init__(observers)
        for observer in self:
            _check(observer)

    def tell(self, event: SupervisorEvent) -> None:
        """Call each of them; one that raises is removed and logged, never fatal."""
        for observer in tuple(self):
            try:
                observer(event)
            except Exception:
                if observer in self:  # else it had raised at an event that it has caused itself
                    self.remove(observer)
                logger.exception("removed a broken supervisor observer: %r", observer)


def _check(observer: object) -> None:
    if not callable(observer) or iscoroutinefunction(observer):
        raise TypeError(f"an observer must be a plain function, got {observer!r}")
