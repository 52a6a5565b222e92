"""What a command prints, where it cannot be written: a full disk, a reader who left, no stdout.

Imports nothing of ours until then: shell completion comes along here, too.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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
        # The interpreter would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    print(f"moorings: cannot write to stdout: {error.strerror}", file=sys.stderr)  # noqa: T201
    return ExitStatus.IO_ERROR
