"""The command line: what it takes. What it does is elsewhere, and imported when it is done.

Shell completion runs this module at every press of a key, so that it imports nothing heavy.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import errno
import os
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .output import complaints, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

app = typer.Typer(
    name="moorings",
    help="Supervised connections to document databases.",
    no_args_is_help=True,
    # They print local variables, and those hold passwords.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_USAGE = 2  # what typer and click say for EX_USAGE


class Ended(SystemExit):
    """A command ended with a status of its own: never taken for a usage error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status (see `exits`)."""
    with complaints():
        return written(partial(_run, arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=None if arguments is None else list(arguments), prog_name="moorings")
    except Ended as end:
        return _status(end)
    except SystemExit as end:
        from .exits import ExitStatus

        status = _status(end)
        return ExitStatus.USAGE if status == _USAGE else status
    return 0


def _status(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else 0


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Host(StrEnum):
    """The event loops that a program may run on."""

    TRIO = "trio"
    ASYNCIO = "asyncio"


class DiagramFormat(StrEnum):
    """How the state machine is drawn."""

    MERMAID = "mermaid"
    TEXT = "text"


SettingsFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="A TOML file with settings; may repeat, later ones override. "
        "Default: what MOORINGS_SETTINGS names, else ./settings.toml.",
        show_default=False,
    ),
]
Env = Annotated[
    str | None,
    typer.Option(
        "--env",
        metavar="NAME",
        help="The layer to lay over 'default'. Default: MOORINGS_ENV.",
        show_default=False,
    ),
]
Level = Annotated[
    LogLevel,
    typer.Option(
        "--log-level",
        envvar="MOORINGS_LOG_LEVEL",
        case_sensitive=False,
        help="How much is logged, to stderr.",
    ),
]


def _connection_names(context: typer.Context, incomplete: str) -> list[str]:
    from .completion import connection_names

    return connection_names(context, incomplete)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"moorings {version('moorings')}")
        raise typer.Exit


@app.callback()
def _moorings(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which this is."),
    ] = False,
) -> None:
    """Supervised connections to document databases."""


@app.command(
    epilog="Examples: 'moorings run' serves one connection in memory; "
    "'moorings run app:main --settings settings.toml --env production' runs "
    "'async def main(connections)' of app.py."
)
def run(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="An async function that is called with the connections. "
            "Without it: serve until a signal comes.",
            show_default=False,
        ),
    ] = None,
    settings: SettingsFiles = None,
    env: Env = None,
    host: Annotated[Host, typer.Option(help="The event loop to run on.")] = Host.TRIO,
    log_level: Level = LogLevel.INFO,
) -> None:
    """Run a program with its connections, probes and metrics around it.

    SIGTERM or Ctrl-C stops it in order; a second one ends it at once.
    SIGHUP reloads the settings.
    """
    from .commands import run_target

    _end(run_target, target, settings or [], env, host.value, log_level.value)


@app.command(
    epilog="Examples: 'moorings check --settings settings.toml'; "
    "'moorings check main --wait 60' waits for a database that is still starting."
)
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES",
            autocompletion=_connection_names,
            help="The connections to check; they all decide the status. "
            "Default: all, of which the required ones decide.",
            show_default=False,
        ),
    ] = None,
    settings: SettingsFiles = None,
    env: Env = None,
    *,
    config_only: Annotated[
        bool, typer.Option("--config-only", help="Validate the settings, and connect to nothing.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="Keep trying until all are ready, or so long.",
            show_default=False,
        ),
    ] = None,
    log_level: Level = LogLevel.ERROR,
) -> None:
    """Connect once to every database, and report.

    Status: 0 ready; 68 a name is unknown; 69 unavailable; 77 credentials refused;
    78 settings or a secret cannot be used; 70 a bug.
    """
    from .commands import check_names

    _end(check_names, names or [], settings or [], env, config_only, wait, log_level.value)


@app.command(
    epilog="Examples: 'moorings status'; 'moorings status --watch'; "
    "'moorings status --url http://127.0.0.1:9470 --json'."
)
def status(
    settings: SettingsFiles = None,
    env: Env = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Where it serves. Default: what the settings say, else http://127.0.0.1:9464.",
            show_default=False,
        ),
    ] = None,
    *,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Go on: a live table, or a line per change where no terminal is."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; with --watch, a document per change.")
    ] = False,
) -> None:
    """Show the connections of a program that is running.

    Status: 0; 69 it does not answer. --watch goes on until Ctrl-C (130), and
    says when the program is gone and when it is back.
    """
    from .status_command import show_status

    _answer(show_status, settings or [], env, url, as_json, watch)


@app.command(
    epilog="Examples: 'moorings config --env production'; "
    "'moorings config --schema > settings.schema.json' for editors and CI."
)
def config(
    settings: SettingsFiles = None,
    env: Env = None,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a settings file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the settings that hold, without secrets, and where each value comes from."""
    from .listings import show_config

    _answer(show_config, settings or [], env, schema, as_json)


@app.command(epilog="Example: 'moorings states --format mermaid > states.mmd'.")
def states(
    settings: SettingsFiles = None,  # noqa: ARG001 - every command takes them
    env: Env = None,  # noqa: ARG001
    drawn: Annotated[
        DiagramFormat, typer.Option("--format", help="How to draw it.")
    ] = DiagramFormat.TEXT,
) -> None:
    """Draw the state machine of a connection, from the table that runs it."""
    from .listings import show_states

    _answer(show_states, drawn.value)


@app.command(epilog="Example: 'moorings backends'.")
def backends(settings: SettingsFiles = None, env: Env = None) -> None:  # noqa: ARG001
    """List the backends that are installed, and those that cannot be imported."""
    from .listings import show_backends

    _answer(show_backends)


def _end(command: Callable[..., int], *arguments: object) -> NoReturn:
    """Run a command, and end with its status."""
    from .commands import called

    if sys.stdout is None:  # closed by whoever wants the status alone
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - it is stdout from here on
    # In here as well: what comes out of a command is typer's, which has a status of its own for it.
    raise Ended(written(partial(called, command, *arguments)))


def _answer(command: Callable[..., int], *arguments: object) -> NoReturn:
    """The same of a command that is there for what it prints."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _end(command, *arguments)


if __name__ == "__main__":
    sys.exit(main())
