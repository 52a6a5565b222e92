"""Logging as `moorings` the program sets it up; the library never does.

To stderr: JSON lines where a machine reads, one readable line above the live table where a person
does. Everything that goes through `logging` or structlog comes out alike, whoever wrote it, and
nothing comes out with a secret in it: the redactor is asked on the handler and once more before
the text is made. Tracebacks are rendered without local variables.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from rich.console import Console
from rich.text import Text

from .log_records import STRUCTURE

if TYPE_CHECKING:
    from rich.live import Live
    from structlog.typing import EventDict

    from .redaction import Redactor


class TerminalHandler(logging.Handler):
    """Prints records above whatever is live on the same console.

    Attributes:
        live: the display to stop when logging ends, however abruptly: it has hidden the cursor.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.live: Live | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; a failure is reported the way `logging` does."""
        try:
            self.console.print(Text.from_ansi(self.format(record)), soft_wrap=True)
        except Exception:  # noqa: BLE001 - a handler never raises into the program
            self.handleError(record)

    def close(self) -> None:
        """Give the terminal back as it was."""
        live, self.live = self.live, None
        if live is not None:
            live.stop()
        super().close()


def configure(
    redactor: Redactor, *, level: str = "INFO", json: bool | None = None
) -> logging.Handler:
    """Send every record of this process to stderr; the program's own structlog events as well.

    Call it before the program's modules are imported: what they configure themselves wins.

    Args:
        redactor: takes the secrets out. Share it with the kernel, which teaches it.
        level: the root logger's, by name. DEBUG lets the drivers' own records through as well.
        json: None: unless stderr is a terminal.

    Returns:
        The handler; a `TerminalHandler` unless it writes JSON.
    """
    if json is None:
        json = not sys.stderr.isatty()
    console = Console(stderr=True, highlight=False)
    handler = logging.StreamHandler(sys.stderr) if json else TerminalHandler(console)
    handler.addFilter(redactor)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _from_stdlib],
            processors=[
                _described if json else _described_briefly,
                redactor,
                structlog.processors.JSONRenderer()
                if json
                else structlog.dev.ConsoleRenderer(
                    colors=not console.no_color and console.is_terminal,
                    pad_event_to=0,
                    sort_keys=False,
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
        )
    )
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return handler


def _from_stdlib(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """A standard record's own facts: our structure, and the traceback, redacted by the filter."""
    record: logging.LogRecord = event_dict["_record"]
    event_dict.update(event_dict.pop(STRUCTURE, {}))
    if record.exc_text:
        event_dict["exception"] = record.exc_text
    return event_dict


def _described(_: Any, __: str, event_dict: EventDict) -> EventDict:
    record: logging.LogRecord = event_dict["_record"]
    at = datetime.fromtimestamp(record.created, UTC)
    return {
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        **_plain(event_dict),
    }


def _described_briefly(_: Any, __: str, event_dict: EventDict) -> EventDict:
    record: logging.LogRecord = event_dict["_record"]
    at = datetime.fromtimestamp(record.created).astimezone()
    shown = {"timestamp": f"{at:%H:%M:%S}", "level": record.levelname.lower()}
    if record.name != "moorings":
        shown["logger"] = record.name
    return shown | _plain(event_dict)


def _plain(event_dict: EventDict) -> dict[str, Any]:
    event = {"event": event_dict.get("event")}  # first: eyes look for it there
    return event | {k: v for k, v in event_dict.items() if k not in {"_record", "_from_structlog"}}
