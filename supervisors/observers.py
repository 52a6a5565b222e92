"""Those who are told what happens to children."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .spec import SupervisorEvent, SupervisorObserver

logger = logging.getLogger("moorings.supervisors")


class Observers(list["SupervisorObserver"]):
    """Callables that see every event. While there are none, no event is made."""

    def tell(self, event: SupervisorEvent) -> None:
        """Call each of them; one that raises is removed and logged, never fatal."""
        for observer in tuple(self):
            try:
                observer(event)
            except Exception:
                if observer in self:  # else it had raised at an event that it has caused itself
                    self.remove(observer)
                logger.exception("removed a broken supervisor observer: %r", observer)
