"""What `moorings run` and `moorings check` do; each command returns its exit status."""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import typer

from ..errors import RestartIntensityExceeded, SettingsError, UnknownConnection
from . import console
from .checking import check_connections, exit_status
from .embedded import EMBEDDED_WARNING, load_or_embedded
from .exits import ExitStatus, status_of
from .loading import load_settings
from .redaction import Redactor
from .runner import run_loaded
from .screen import LiveView, print_problems, print_table
from .spans import duration
from .targets import TargetError, TargetImportFailed, load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .loading import LoadedSettings

logger = logging.getLogger("moorings")


def called(command: Callable[..., int], *arguments: Any) -> int:
    """Run a command; what is the user's to mend is said without a traceback.

    Raises:
        typer.BadParameter: the command line is wrong.
    """
    try:
        return command(*arguments)
    except SettingsError as error:
        print_problems(error)
        return ExitStatus.CONFIG
    except (TargetError, UnknownConnection) as error:
        raise typer.BadParameter(str(error)) from None


def run_target(
    target: str | None, files: Sequence[Path], env: str | None, host: str, log_level: str
) -> int:
    """Load everything, then run; `host` is one that typer let pass."""
    redactor = Redactor()
    handler = console.configure(redactor, level=log_level)
    loaded, embedded = load_or_embedded(files, env)
    try:
        function = None if target is None else load_target(target)
    except TargetImportFailed as error:
        logger.critical("%s", error, exc_info=error.__cause__)
        return ExitStatus.FAILED
    if embedded:
        logger.warning(EMBEDDED_WARNING)
    elif not any(c.enabled for c in loaded.settings.database.documents.values()):
        logger.warning(_no_connections(loaded))
    if not isinstance(handler, console.TerminalHandler):
        return run_loaded(function, loaded, redactor, host=host)
    view = LiveView(handler.console)
    with nullcontext() if handler.console.is_dumb_terminal else view.live:
        handler.live = view.live
        return run_loaded(function, loaded, redactor, host=host, wired=view.attach)


def check_names(
    names: Sequence[str],
    files: Sequence[Path],
    env: str | None,
    config_only: bool,
    wait: float | None,
    log_level: str,
) -> int:
    """Connect to each once, print a table; the worst decides."""
    redactor = Redactor()
    console.configure(redactor, level=log_level)
    loaded = load_settings(files, env=env)
    if config_only:
        _print_valid(loaded)
        return ExitStatus.OK
    try:
        checked = check_connections(loaded, names, redactor, wait)
    except RestartIntensityExceeded as error:
        print(redactor.redact(f"{error}: {error.__cause__!r}"), file=sys.stderr)  # noqa: T201
        return status_of(error)
    if not checked:  # a slip in a table's name looks like this: it belongs to others then
        print(f"moorings: {_no_connections(loaded)}", file=sys.stderr)  # noqa: T201
    print_table(
        ("name", "backend", "state", "time", "reason"),
        [
            (
                c.status.name,
                c.status.backend if c.decides else f"{c.status.backend} (optional)",
                c.status.state,
                duration(c.seconds),
                ": ".join(part for part in (c.status.reason, c.status.error) if part),
            )
            for c in checked
        ],
        coloured="state",
    )
    return exit_status(checked)


def _no_connections(loaded: LoadedSettings) -> str:
    left = f"; not ours, left alone: {', '.join(loaded.foreign)}" if loaded.foreign else ""
    return f"no connection is enabled in {', '.join(map(str, loaded.files))}{left}"


def _print_valid(loaded: LoadedSettings) -> None:
    documents = loaded.settings.database.documents.values()
    enabled = sum(connection.enabled for connection in documents)
    where = ", ".join(map(str, loaded.files))
    print(f"{where}: valid; {enabled} of {len(documents)} connections enabled")  # noqa: T201
