"""What `.ci/debian` installs is there, and starts: tests of operators' tools rest on it."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.operators


@pytest.mark.parametrize(
    "program",
    ["prometheus", "promtool", "chromium", "chromedriver", "zsh", "fish", "systemd-analyze"],
)
def test_the_program_is_installed(program: str) -> None:
    """It says its version: on the PATH, with every library that it loads."""
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
