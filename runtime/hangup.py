"""SIGHUP: a program that owns its process reads its settings again.

By a handler of Python's own, as in `shutdown`: what a signal begins in a loop, its caller says.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ..errors import ConnectionNotReady, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .manager import ConnectionManager
    from .redaction import Redactor

logger = logging.getLogger("moorings")


@contextmanager
def heeding_hangups(begin_reload: Callable[[], object]) -> Iterator[None]:
    """Each SIGHUP: `begin_reload()`, from inside a signal handler. Nothing where there is none."""
    number = getattr(signal, "SIGHUP", None)
    if number is None:  # pragma: no cover - Windows
        yield
        return
    terminal = signal.getsignal(number) is signal.SIG_DFL and _has_terminal()  # and no `nohup`

    def heed(*_: object) -> None:
        if terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)  # its window was closed: nobody can end it later
        else:
            begin_reload()

    before = signal.signal(number, heed)
    try:
        yield
    finally:
        signal.signal(number, before)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Hangups:
    """What a SIGHUP does, once the connections run; one that comes earlier is not forgotten.

    Args:
        redactor: knows the secrets.
        around: what each reload happens in: it tells others.

    Attributes:
        wanted: one has come before.
    """

    def __init__(
        self,
        redactor: Redactor,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._redactor = redactor
        self._around = around
        self._manager: ConnectionManager | None = None
        self.wanted = False

    async def began(self, manager: ConnectionManager) -> None:
        """The connections run from now on."""
        self._manager = manager
        if self.wanted:
            await self.reload()

    async def reload(self) -> None:
        """Load the same sources again, and say what came of it; raises nothing."""
        if self._manager is None:
            self.wanted = True
            return
        with self._around():
            await self._reload(self._manager)

    async def _reload(self, manager: ConnectionManager) -> None:
        try:
            changes = await manager.reload()
        except SettingsError as error:
            # A traceback of ours tells the user nothing.
            why = self._redactor.redact(str(error))
            logger.error("not reloaded, nothing has changed: %s", why)  # noqa: TRY400
        except ConnectionNotReady as error:
            logger.warning("%s", error)  # it shuts down
        except Exception:
            # Ours to mend, but nothing is wrong with the program that goes on.
            logger.exception("the reload failed")
        else:
            logger.info("settings reloaded: %s", changes)
