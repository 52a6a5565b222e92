"""What a command prints, where it cannot be written: no traceback, and a status that says so."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

import pytest
from processes import SECONDS, clean_environ
from settings_files import settings, write

from moorings.runtime.cli import main
from moorings.runtime.output import written

if TYPE_CHECKING:
    from pathlib import Path

    from processes import Start

pytestmark = pytest.mark.slow  # processes of their own, each of which takes its second

ANSWERS = ["states", "states --format mermaid", "backends", "config --json"]


def shell(folder: Path, arguments: str, redirection: str) -> tuple[int, str]:
    """The status of a command, and what it says on stderr."""
    line = f'set -o pipefail; "{sys.executable}" -m moorings {arguments} {redirection}'
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With settings in it."""
    write(tmp_path, settings({"main": {"backend": "local"}}))
    return tmp_path


@pytest.mark.parametrize("arguments", ANSWERS)
def test_an_answer_without_a_stdout_is_74_and_a_line(folder: Path, arguments: str) -> None:
    said = "moorings: cannot write to stdout: Bad file descriptor\n"
    assert shell(folder, arguments, ">&-") == (74, said)


@pytest.mark.parametrize("arguments", [*ANSWERS[:2], "check --config-only", "--version"])
def test_an_answer_to_a_full_disk_is_74_and_a_line(folder: Path, arguments: str) -> None:
    said = "moorings: cannot write to stdout: No space left on device\n"
    assert shell(folder, arguments, ">/dev/full") == (74, said)


def test_a_running_program_that_is_asked_without_a_stdout(start: Start, tmp_path: Path) -> None:
    """Asked once, and followed."""
    program = start("run")
    program.becomes_ready()
    for options in ("", "--json", "--watch"):
        status, said = shell(tmp_path, f"status --url {program.url()} {options}", ">&-")
        assert status == 74
        assert said == "moorings: cannot write to stdout: Bad file descriptor\n"


def test_a_reader_who_left_has_seen_enough(folder: Path) -> None:
    assert shell(folder, "states", "| true") == (141, "")


def test_with_nobody_to_tell_the_status_tells(folder: Path) -> None:
    assert shell(folder, "states", ">&- 2>&-") == (74, "")


def test_whoever_wants_the_status_alone_may_close_the_rest(folder: Path) -> None:
    """A check is there for its status."""
    assert shell(folder, "check --log-level error", ">&-") == (0, "")


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("status --json --url http://127.0.0.1:1", 69),
        ("config --settings none.toml", 78),
        ("run app:main --settings none.toml", 78),
        ("nonsense", 64),
        ("check", 0),
        ("states >/dev/full", 74),
    ],
)
def test_a_stderr_that_cannot_be_written_changes_no_status(
    folder: Path, arguments: str, status: int, stderr: str
) -> None:
    assert shell(folder, arguments, stderr) == (status, "")


def test_an_answer_that_fails_in_a_test_of_somebodys_ends_with_74_as_well() -> None:
    """Its stdout is no file."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    said = io.StringIO()
    with redirect_stdout(Full()), redirect_stderr(said):
        assert main(["states"]) == 74
    assert said.getvalue() == "moorings: cannot write to stdout: No space left on device\n"


def test_an_error_about_something_else_is_not_about_stdout(tmp_path: Path) -> None:
    def reads() -> int:
        return len((tmp_path / "missing").read_text())

    with pytest.raises(FileNotFoundError):
        written(reads)
