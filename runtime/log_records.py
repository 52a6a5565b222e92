"""Events as records of the standard library's logger `moorings`: one line, and its fields.

Whoever configures nothing but `logging` reads `connection lost connection=a reason=refused`;
whoever renders structures finds the same as `record.moorings`. structlog's loggers were tried and
are not used here: their global configuration is the application's, not ours, and they cannot say
that something happened before it was told.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .redaction import Redactor

logger = logging.getLogger("moorings")

STRUCTURE = "moorings"
"""The attribute of a record that holds `{"event": …, **fields}`."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Something that happened, whenever it is told.

    Attributes:
        level: one of `logging`'s.
        event: what happened, the same words every time.
        fields: the circumstances; plain values without secrets.
        error: an exception whose traceback belongs to it.
        at: when it happened, in Unix seconds.
    """

    level: int
    event: str
    fields: Mapping[str, Any]
    error: BaseException | None = None
    at: float = field(default_factory=time.time)

    def tell(self, redactor: Redactor) -> None:
        """Hand it to the logger, with the time when it happened."""
        structure = {"event": self.event, **self.fields}
        record = logger.makeRecord(
            logger.name,
            self.level,
            "(moorings)",  # where in our code it was told helps nobody
            0,
            one_line(self.event, self.fields),
            (),
            None,
            extra={STRUCTURE: structure},
        )
        record.relativeCreated += (self.at - record.created) * 1000
        record.created = self.at
        record.msecs = self.at % 1 * 1000
        if self.error is not None:
            # Rendered here, without local variables: those are where passwords leak from.
            text = "".join(traceback.format_exception(self.error)).rstrip()
            record.exc_text = redactor.redact(text)
        logger.handle(record)


def one_line(event: str, fields: Mapping[str, Any]) -> str:
    """`event key=value …`; values with spaces or quotes in them are quoted."""
    return " ".join([event, *(f"{key}={_quoted(value)}" for key, value in fields.items())])


def _quoted(value: Any) -> str:
    text = str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return json.dumps(text, ensure_ascii=False)
