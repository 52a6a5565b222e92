"""`run`: a whole program around one function. Signals, drain, shutdown, exit status.

What `open_connections` leaves to its host is decided here, since `run` owns its process: signals
are received, the exporter is on, and a shutdown that takes too long ends the process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio
from sniffio import AsyncLibraryNotFoundError, current_async_library

from ..errors import ConnectionNotReady, HostMismatch, RestartIntensityExceeded, SettingsError
from .exits import ExitStatus, status_of
from .exporter import UNLOCATED
from .loading import load_settings
from .opening import opened
from .redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ..errors import SettingsProblem
    from .loading import LoadedSettings, Source
    from .manager import ConnectionManager

    Function = Callable[[ConnectionManager], Awaitable[Any]]

logger = logging.getLogger("moorings")

# The watchdog fires this much after the shutdown's own bound, in seconds: a shutdown that ends
# at its bound must be able to say so first.
_GRACE = 0.25

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    function: Function | None = None,
    settings: Source | None = None,
    *,
    host: str = "trio",
    env: str | None = None,
) -> int:
    """Run `await function(connections)` with exporter and connections around it.

    On SIGTERM or SIGINT /readyz says 503, `runtime.drain_delay` passes, the function is cancelled,
    the connections stop, the exporter last. A second signal ends the process at once.

    Args:
        function: the program; None: run until a signal comes.
        settings: as `open_connections` takes them.
        host: `"trio"`.
        env: the settings' layer; None: `MOORINGS_ENV`.

    Returns:
        0 when the function returned or a signal ended it; 1 when it raised (the traceback goes to
        the log); 78 for settings; 68, 69 or 77 when a start that fails fast did not succeed; 70
        when a bug escalated. If the shutdown exceeds `runtime.shutdown_timeout`, the process ends
        with 70.

    Raises:
        HostMismatch: `host` is not one that this version runs on.
        RuntimeError: called from inside an event loop, or not from the main thread.
    """
    _check_host(host)
    _check_place()
    redactor = Redactor()
    try:
        return run_loaded(function, load_settings(settings, env=env), redactor)
    except SettingsError as error:
        # A traceback of ours tells the user nothing.
        logger.error("%s", redactor.redact(str(error)))  # noqa: TRY400
        return ExitStatus.CONFIG


def _check_host(host: str) -> None:
    if host != "trio":
        raise HostMismatch(f"this version runs on host 'trio' only, not on {host!r}")


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
    wired: Callable[[ConnectionManager], object] | None = None,
) -> int:
    """`run` with settings that are loaded already; returns the exit status.

    Args:
        function: the program; None: run until a signal comes.
        loaded: the settings.
        redactor: knows the secrets; share it with the log.
        wired: called with the manager before anything of it runs.

    Raises:
        SettingsError: the exporter's address cannot be bound.
    """
    program = _Program(function, loaded, redactor, wired)
    try:
        trio.run(program.main)
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
        program.finished()
    return ExitStatus.OK


def _failed(error: BaseException, program: _Program, redactor: Redactor) -> int:
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


def _wish_to_exit(error: BaseException) -> BaseException | None:
    """The `sys.exit()` of a task of the program's own, which its nurseries wrap in groups."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return error if isinstance(error, SystemExit | KeyboardInterrupt) else None


def _with_cause(error: BaseException) -> str:
    cause = error.__cause__
    return f"{error}" if cause is None else f"{error}: {type(cause).__name__}: {cause}"


class _Program:
    """One run: the function, its signals, and the bound on its shutdown."""

    def __init__(
        self,
        function: Function | None,
        loaded: LoadedSettings,
        redactor: Redactor,
        wired: Callable[[ConnectionManager], object] | None,
    ) -> None:
        self._function = function
        self._loaded = loaded
        self._redactor = redactor
        self._told_wired = wired
        self._runtime = loaded.settings.runtime
        self._scope = trio.CancelScope()
        self._watchdog: threading.Timer | None = None
        self._manager: ConnectionManager | None = None
        self._draining = False
        self._over = False
        self._error: BaseException | None = None
        self.function_failed = False

    @property
    def failure(self) -> BaseException | None:
        """What ended the runtime, if the program did not."""
        return None if self._manager is None else self._manager.kernel.failure

    async def main(self) -> None:
        """Everything, in order; ends when the connections and the exporter have."""
        async with trio.open_nursery() as nursery:
            with self._heeding(nursery):
                await self._run_connections()
            self._over = True
            nursery.cancel_scope.cancel()
        if self._error is not None:
            raise self._error

    async def _run_connections(self) -> None:
        """The error is kept for `main`: a nursery would wrap it."""
        try:
            with self._scope:
                async with opened(
                    self._loaded, redactor=self._redactor, exporter=True, wired=self._wired
                ) as manager:
                    try:
                        await self._call(manager)
                    finally:
                        self._begin_shutdown()
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - raised by `main`
            self._error = _wish_to_exit(error) or error

    def _wired(self, manager: ConnectionManager) -> None:
        # Before the start is over: a signal may come while it still waits for a database.
        self._manager = manager
        if self._told_wired is not None:
            self._told_wired(manager)

    async def _call(self, manager: ConnectionManager) -> None:
        try:
            if self._function is None:
                await trio.sleep_forever()
            else:
                await self._function(manager)
        except Exception:
            self.function_failed = True
            raise

    @contextmanager
    def _heeding(self, nursery: trio.Nursery) -> Iterator[None]:
        """First signal: drain, then cancel. Second: leave at once.

        Not trio's `open_signal_receiver`, which needs the loop: a function that holds it would
        neither be ended by the watchdog nor by a second signal.
        """
        token = trio.lowlevel.current_trio_token()

        def heed(number: int, _: object) -> None:
            # Between any two instructions of whatever runs: others' locks may be held, so that
            # nothing is logged here.
            if self._draining:
                threading.Thread(target=self._leave_for, args=(number,), daemon=True).start()
                return
            self._draining = True
            self._arm(self._runtime.drain_delay)
            token.run_sync_soon(self._begin_drain, nursery, number)

        before = {number: signal.signal(number, heed) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _leave_for(self, number: int) -> None:
        logger.warning("%s again: leaving at once", signal.Signals(number).name)
        self._leave(128 + number)

    def _begin_drain(self, nursery: trio.Nursery, number: int) -> None:
        if not self._over:  # a signal may come in the very last moment
            nursery.start_soon(self._drain, number)

    async def _drain(self, number: int) -> None:
        logger.info("%s: shutting down", signal.Signals(number).name)
        if self._manager is not None:
            self._manager.kernel.draining = True
        await trio.sleep(self._runtime.drain_delay)
        self._scope.cancel()

    def _begin_shutdown(self) -> None:
        self._arm(0.0)

    def _arm(self, delay: float) -> None:
        """From now on the process lives no longer than the shutdown may take.

        Once: a signal may come while a shutdown is under way, or begin it.
        """
        if self._watchdog is not None:
            return
        seconds = delay + self._runtime.shutdown_timeout + _GRACE
        if seconds < threading.TIMEOUT_MAX:  # else for ever: centuries, to be exact
            self._watchdog = threading.Timer(seconds, self._overdue)
            self._watchdog.daemon = True
            self._watchdog.start()

    def _overdue(self) -> None:
        # In a thread: whatever does not stop may well be holding the loop.
        manager = self._manager
        names = [s.name for s in manager.statuses() if s.state != "stopped"] if manager else []
        logger.critical(
            "not stopped within %g s: %s; leaving",
            self._runtime.shutdown_timeout,
            ", ".join(names) or "the program's function",
        )
        self._leave(ExitStatus.SOFTWARE)

    def _leave(self, status: int) -> None:
        if self._manager is not None:
            self._manager.kernel.announcer.flush_log()
        _leave(status)

    def finished(self) -> None:
        """Everything has stopped in time."""
        if self._watchdog is not None:
            self._watchdog.cancel()


def _leave(status: int) -> None:
    """End the process now, with what was said so far written out."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
