"""What a command prints, where it cannot be written: a full disk, a reader who left, no stdout.

Stderr is of no consequence: what cannot be said there is not said, and the status stays what it is.
Imports nothing of ours until then: shell completion comes along here, too.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OF_WRITING = {
    errno.EBADF,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ENOSPC,
    errno.EPIPE,
}


def written(command: Callable[[], int]) -> int:
    """Run a command, and see that what it printed is written.

    Returns:
        Its status; where it cannot be written, another, and why is said in one line. A reader who
        left has seen enough: nothing is said to the others then.
    """
    try:
        status = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OF_WRITING or error.filename is not None:
            raise  # it is about something else
        return _not_written(error)
    return status


def _not_written(error: OSError) -> int:
    from .exits import ExitStatus  # noqa: PLC0415 - see above

    if sys.stdout is not None:
        _discard(sys.stdout)
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    print(f"moorings: cannot write to stdout: {error.strerror}", file=sys.stderr)  # noqa: T201
    return ExitStatus.IO_ERROR


@contextmanager
def complaints() -> Iterator[None]:
    """Let nothing fail because stderr is closed, full, or read by nobody any more."""
    stderr = sys.stderr
    try:
        if stderr is None:
            with Path(os.devnull).open("w") as sys.stderr:
                yield
        else:
            sys.stderr = cast("TextIO", _Complaints(stderr))
            yield
    finally:
        sys.stderr = stderr


class _Complaints:
    """Stderr, whose errors are nobody's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _discard(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Let what is left go nowhere: the interpreter would try it again at its end, and complain."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return  # it has none: a test's, say
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
