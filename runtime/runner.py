"""`run`: a whole program around one function, and what its end means as an exit status.

What `open_connections` leaves to its host is decided here, since `run` owns its process: signals
are received, the exporter is on, and a shutdown that takes too long ends the process.
"""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from sniffio import AsyncLibraryNotFoundError, current_async_library

from ..errors import ConnectionNotReady, HostMismatch, RestartIntensityExceeded, SettingsError
from .exits import ExitStatus, status_of
from .exporter import UNLOCATED
from .loading import load_settings
from .program import Program
from .redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import SettingsProblem
    from .loading import LoadedSettings, Source
    from .manager import ConnectionManager
    from .program import Function

logger = logging.getLogger("moorings")

_HOSTS = ("trio", "asyncio")


def run(
    function: Function | None = None,
    settings: Source | None = None,
    *,
    host: str = "trio",
    env: str | None = None,
) -> int:
    """Run `await function(connections)` with exporter and connections around it.

    On SIGHUP the settings are read again from the same sources (see `ConnectionManager.reload`);
    one line of the log says what has changed, or what is wrong with them: then nothing has.
    On SIGTERM or SIGINT /readyz says 503, `runtime.drain_delay` passes, the function is cancelled,
    the connections stop, the exporter last. A second signal ends the process at once. What does
    not stop when it is cancelled, or swallows that, ends with the process.

    Args:
        function: the program; None: run until a signal comes.
        settings: as `open_connections` takes them.
        host: the event loop that the function runs on: `"trio"` or `"asyncio"`.
        env: the settings' layer; None: `MOORINGS_ENV`.

    Returns:
        0 when the function returned or a signal ended it; 1 when it raised (the traceback goes to
        the log); 78 for settings; 68, 69 or 77 when a start that fails fast did not succeed; 70
        when a bug escalated. If the shutdown exceeds `runtime.shutdown_timeout`, the process ends
        with 70.

    Raises:
        HostMismatch: `host` is neither.
        RuntimeError: called from inside an event loop, or not from the main thread.
    """
    _check_host(host)
    _check_place()
    redactor = Redactor()
    try:
        return run_loaded(function, load_settings(settings, env=env), redactor, host=host)
    except SettingsError as error:
        # A traceback of ours tells the user nothing.
        logger.error("%s", redactor.redact(str(error)))  # noqa: TRY400
        return ExitStatus.CONFIG


def _check_host(host: str) -> None:
    if host not in _HOSTS:
        known = " and ".join(map(repr, _HOSTS))
        raise HostMismatch(f"moorings.run knows the hosts {known}, and not {host!r}")


def _check_place() -> None:
    """Signals reach the main thread alone, and a loop cannot run in another."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("moorings.run was called from another thread than the main one")
    with suppress(AsyncLibraryNotFoundError):
        library = current_async_library()
        raise RuntimeError(
            f"moorings.run was called from inside a {library} program: use open_connections there"
        )


def run_loaded(
    function: Function | None,
    loaded: LoadedSettings,
    redactor: Redactor,
    *,
    host: str = "trio",
    wired: Callable[[ConnectionManager], object] | None = None,
) -> int:
    """`run` with settings that are loaded already; returns the exit status.

    Args:
        function: the program; None: run until a signal comes.
        loaded: the settings.
        redactor: knows the secrets; share it with the log.
        host: `"trio"` or `"asyncio"`.
        wired: called with the manager before anything of it runs.

    Raises:
        SettingsError: the exporter's address cannot be bound, or a backend does not work there.
    """
    program = Program(function, loaded, redactor, wired)
    try:
        _run_on(host, program)
    except KeyboardInterrupt:  # before the signals were ours, or the program's own
        return 128 + signal.SIGINT
    except SystemExit as error:
        return _code(error)
    except SettingsError as error:
        if not program.function_failed:
            raise SettingsError(*(_located(p, loaded) for p in error.problems)) from None
        return _failed(error, program, redactor)
    except BaseException as error:  # noqa: BLE001 - the interpreter would print its secrets
        return _failed(error, program, redactor)
    finally:
        program.shutdown.finished()
    return ExitStatus.OK


def _run_on(host: str, program: Program) -> None:
    if host == "trio":
        from .trio_program import run_on_trio  # noqa: PLC0415 - one of them is enough

        run_on_trio(program)
    else:
        from .asyncio_program import run_on_asyncio  # noqa: PLC0415

        run_on_asyncio(program)
    if program.error is not None:
        raise program.error


def _failed(error: BaseException, program: Program, redactor: Redactor) -> int:
    """Say why, and choose the status: the runtime's own end counts for more than the program's.

    The program that waits for a connection fails with it: that is one failure, and not two.
    """
    known = isinstance(error, ConnectionNotReady | RestartIntensityExceeded)
    if known and (error is program.failure or not program.function_failed):
        logger.critical("%s", redactor.redact(_with_cause(error)))
        return status_of(error)
    logger.error("the program failed", exc_info=error)
    return ExitStatus.FAILED if program.failure is None else status_of(program.failure)


def _located(problem: SettingsProblem, loaded: LoadedSettings) -> SettingsProblem:
    """What turned out only when it was tried, with the place where the value was set."""
    if problem.file != UNLOCATED:
        return problem
    origin = loaded.origin(problem.key)
    return replace(problem, file=origin.file, layer=origin.layer)


def _code(error: SystemExit) -> int:
    """What the interpreter would make of it: None is success, a text is printed and is 1."""
    match error.code:
        case None:
            return ExitStatus.OK
        case int(code):
            return code
        case text:
            logger.critical("%s", text)
            return ExitStatus.FAILED


def _with_cause(error: BaseException) -> str:
    cause = error.__cause__
    return f"{error}" if cause is None else f"{error}: {type(cause).__name__}: {cause}"
