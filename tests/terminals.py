"""Programs on a terminal of their own: what they show there can be waited for."""

from __future__ import annotations

import os
import pty
import sys
import time
from typing import TYPE_CHECKING

import pytest
from processes import clean_environ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def terminal() -> Iterator[Callable[..., tuple[int, Callable[[str], str]]]]:
    """Starts `moorings` on a terminal of its own: its pid, and a wait for what it shows."""
    children: list[tuple[int, int]] = []

    def begin(cwd: Path, *arguments: str, **variables: str) -> tuple[int, Callable[[str], str]]:
        environ = clean_environ(TERM="xterm-256color", COLUMNS="120", **variables)
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.execve(sys.executable, [sys.executable, "-m", "moorings", *arguments], environ)
        children.append((pid, terminal))
        shown = bytearray()

        def wait(text: str) -> str:
            deadline = time.monotonic() + 30
            while text.encode() not in shown:
                assert time.monotonic() < deadline, shown.decode()
                try:
                    read = os.read(terminal, 65536)
                except OSError:  # the other side is closed
                    read = b""
                assert read, shown.decode()
                shown.extend(read)
            return shown.decode()

        return terminal, wait

    yield begin
    for pid, terminal in children:
        os.close(terminal)
        os.waitpid(pid, 0)
