"""Those who are told what happens to children."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .spec import SupervisorEvent, SupervisorObserver

logger = logging.getLogger("moorings.supervisors")


class Observers:
    """Callables that see every event. False while there are none: then no event is made."""

    def __init__(self, observers: Iterable[SupervisorObserver]) -> None:
        self._observers = list(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, event: SupervisorEvent) -> None:
        """Call each of them; one that raises is removed and logged, never fatal."""
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                self._observers.remove(observer)
                logger.exception("removed a broken supervisor observer: %r", observer)
