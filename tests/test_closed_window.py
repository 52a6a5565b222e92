"""A terminal that is closed ends the program that was begun in it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from processes import clean_environ

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import fcntl, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
import moorings.runtime.cli
moorings.runtime.cli.main(["run"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "ends"), [("SIG_DFL", True), ("SIG_IGN", False)])
def test_a_closed_window_ends_what_ran_in_it(tmp_path: Path, before: str, ends: bool) -> None:
    """But not under `nohup`."""
    window, inside = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", BEGIN, before],
        cwd=tmp_path, env=clean_environ(), stdin=inside, stdout=inside, stderr=inside,
        start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    try:
        shown = b""
        while b"/readyz" not in shown:
            shown += os.read(window, 65536)
        os.close(window)
        if ends:
            program.wait(20)
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                program.wait(2)
    finally:
        program.kill()
        program.wait()
