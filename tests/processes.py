"""Programs as processes of their own: what they write can be waited for; they are ended with us.

`call` is for what needs no process: it runs the same command lines in this one, in a tenth of the
time. Signals from outside, abrupt ends and what the interpreter itself prints need processes.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from moorings.runtime.cli import main

if TYPE_CHECKING:
    import signal

SECONDS = 30.0
"""How long anything that was asked for may take to happen."""


class Program:
    """One `python …`, usually `python -m moorings …`."""

    def __init__(self, *arguments: str, cwd: Path, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._news = threading.Condition()
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [
            threading.Thread(target=self._read, args=("stdout", self.process.stdout)),
            threading.Thread(target=self._read, args=("stderr", self.process.stderr)),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def stdout(self) -> str:
        return "".join(self._lines["stdout"])

    @property
    def stderr(self) -> str:
        return "".join(self._lines["stderr"])

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged; fails where a line is no JSON."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    def said(self, text: str) -> str:
        """Wait for a line of either stream with `text` in it."""
        deadline = time.monotonic() + SECONDS
        with self._news:
            while True:
                for line in (*self._lines["stdout"], *self._lines["stderr"]):
                    if text in line:
                        return line
                ended = not any(reader.is_alive() for reader in self._readers)
                if ended or not self._news.wait(deadline - time.monotonic()):
                    pytest.fail(f"never said {text!r}:\n{self.stdout}\n{self.stderr}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, and return its status."""
        status = self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        return status

    def url(self) -> str:
        """Where it serves, once it does."""
        said = self.said(" http://")  # the exporter's, or a web server's own
        return re.search(r"http://[^/ ]+", said)[0]  # type: ignore[index]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of its own."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.url() + path, timeout=SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def becomes_ready(self, path: str = "/readyz") -> None:
        deadline = time.monotonic() + SECONDS
        while (answer := self.get(path))[0] != 200:
            assert time.monotonic() < deadline, answer

    def finish(self) -> None:
        """Kill it if it still runs, and let everything of it go."""
        self.process.kill()
        self.ended()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self._lines[name].append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


Start = Callable[..., Program]


def clean_environ(**variables: str) -> dict[str, str]:
    """This process's environment without anything of Moorings' but `variables`; any port will do.

    Warnings end in errors there as well as here.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MOORINGS_")}
    return kept | {"MOORINGS_RUNTIME__EXPORTER__PORT": "0"} | variables


@pytest.fixture
def start_python(tmp_path: Path) -> Iterator[Start]:
    """Starts Python with the given arguments in `tmp_path`; keywords are variables."""
    running: list[Program] = []

    def begin(*arguments: str, **variables: str) -> Program:
        program = Program(*arguments, cwd=tmp_path, environ=clean_environ(**variables))
        running.append(program)
        return program

    yield begin
    for program in running:
        program.finish()


@pytest.fixture
def start(start_python: Start) -> Start:
    """Starts `moorings` with the given arguments in `tmp_path`; keywords are variables."""
    return functools.partial(start_python, "-m", "moorings")


@dataclass(frozen=True)
class Done:
    """A command that was run in this process; read as a `Program` that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stderr.splitlines()]

    def ended(self) -> int:
        return self.status


Call = Callable[..., Done]


@pytest.fixture
def call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logging_restored: None,
    capfd: pytest.CaptureFixture[str],
) -> Call:
    """Runs `moorings` as `start` does, but in this process: returns when it has ended."""
    monkeypatch.chdir(tmp_path)
    for variable in os.environ.keys() - clean_environ().keys():
        monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "path", sys.path[:])  # where the command enters the directory

    def run(*arguments: str, **variables: str) -> Done:
        known = set(sys.modules)
        importlib.invalidate_caches()  # modules may have been written a moment ago
        with monkeypatch.context() as environment:
            for name, value in clean_environ(**variables).items():
                environment.setenv(name, value)
            status = main(arguments)
        for name in sys.modules.keys() - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and tmp_path in Path(file).parents:
                del sys.modules[name]  # the next test's module has the same name
        return Done(status, *capfd.readouterr())

    return run
