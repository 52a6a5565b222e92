"""Beanie, unmodified, on supervised connections: version 1 on `mongo`, version 2 on `pymongo`.

Each in an environment of its own, as a process: `make test-odms` makes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mongod import Mongod, MongodFactory

pytestmark = [pytest.mark.odm, pytest.mark.mongod]

SECONDS = 60.0
BACKENDS = {"1": "mongo", "2": "pymongo"}
WORKER = Path(__file__).parent / "odm" / "worker.py"
RECIPES = Path(__file__).parents[1] / "docs" / "recipes.md"
ROOT = Path(sys.prefix)

SETTINGS = """
[default.database.documents.things]
backend = "BACKEND"
[default.database.documents.things.provider]
url = "URL?journal=true"  # what is acknowledged survives the kill
database_name = "DATABASE"
username = { path = "things", key = "username" }
password = { path = "things", key = "password" }
[default.database.documents.things.retry]
initial = 0.05
max = 0.2
attempts = 2
[default.database.documents.things.supervision]
backoff_initial = 0.1
backoff_max = 0.5
[default.security.secrets]
backend = "file"
[default.security.secrets.provider]
base_path = "secrets"
"""


class Worker:
    """One worker process; `ask` sends a line and returns the answer."""

    def __init__(self, python: Path, cwd: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-W", "error::RuntimeWarning", WORKER, "settings.toml"],
            cwd=cwd,
            env={k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # A worker that hangs must not hang the test.
        self._bound = threading.Timer(SECONDS, self._process.kill)
        self._bound.start()
        assert self._stream(self._process.stdout).readline() == "begun\n", self._said()

    def ask(self, *line: str) -> str:
        stdin = self._stream(self._process.stdin)
        stdin.write(" ".join(line) + "\n")
        stdin.flush()
        answer = self._stream(self._process.stdout).readline()
        assert answer, self._said()
        return answer.strip()

    def end(self) -> tuple[int, str]:
        """Its status, and what it said on stderr."""
        self._stream(self._process.stdin).close()
        try:
            return self._process.wait(SECONDS), self._said()
        finally:
            self._bound.cancel()

    def discard(self) -> None:
        self._process.kill()
        self._process.wait()
        self._bound.cancel()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            self._stream(stream).close()

    def _said(self) -> str:
        return self._stream(self._process.stderr).read()

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


ROOT_USER = {"username": "root", "password": "root"}


@pytest.fixture
def server(mongod_factory: MongodFactory) -> Mongod:
    """A server of the test's own that demands credentials, with a user called first."""
    made = mongod_factory("--auth")
    with made.client() as client:  # the localhost exception: the first user needs no login
        client.admin.command("createUser", "root", pwd="root", roles=["root"])
    add_user(made, "first", "one")
    return made


def add_user(server: Mongod, name: str, password: str) -> None:
    with server.client(**ROOT_USER) as client:
        client.admin.command("createUser", name, pwd=password, roles=["readWriteAnyDatabase"])


@pytest.fixture(params=BACKENDS)
def beanie(request: pytest.FixtureRequest) -> str:
    """The major version."""
    version: str = request.param
    return version


@pytest.fixture
def python(beanie: str) -> Path:
    """The interpreter of that version's environment."""
    found = ROOT / f"beanie{beanie}" / "bin" / "python"
    if not found.exists():
        pytest.fail(f"there is no {found}: run `make test-odms`", pytrace=False)
    return found


@pytest.fixture
def worker(beanie: str, python: Path, tmp_path: Path, server: Mongod) -> Iterator[Worker]:
    credentials(tmp_path, "first", "one")
    (tmp_path / "settings.toml").write_text(
        SETTINGS.replace("BACKEND", BACKENDS[beanie])
        .replace("URL", server.url)
        .replace("DATABASE", "things")
    )
    made = Worker(python, tmp_path)
    yield made
    made.discard()


def credentials(tmp_path: Path, username: str, password: str) -> None:
    folder = tmp_path / "secrets" / "things"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "username").write_text(username)
    (folder / "password").write_text(password)


def test_documents_survive_an_outage_and_a_rotation(
    worker: Worker, server: Mongod, tmp_path: Path
) -> None:
    """Defined once, initialised by a hook: the same classes work on, whatever happens."""
    assert worker.ask("write", "1") == "1"

    server.kill()
    assert worker.ask("wait", "failed").startswith("failed 1")
    server.restart()
    assert worker.ask("wait", "ready") == "ready 1"
    assert worker.ask("write", "2") == "2"

    add_user(server, "second", "two")
    credentials(tmp_path, "second", "two")
    assert worker.ask("restart") == "2"
    with server.client(**ROOT_USER) as client:
        client.admin.command("dropUser", "first")
    assert worker.ask("write", "3") == "3"

    assert worker.ask("report") == "[1, 2] []"
    status, said = worker.end()
    assert status == 0, said
    assert "Traceback" not in said


def test_the_recipe_works_as_it_stands(
    beanie: str, python: Path, tmp_path: Path, mongod: Mongod, database_name: str
) -> None:
    blocks = RECIPES.read_text().split("```python\n")[1:]
    (recipe,) = [block.split("```")[0] for block in blocks if "import beanie" in block]
    (tmp_path / "recipe.py").write_text(recipe)
    (tmp_path / "settings.toml").write_text(
        f"""
        [default.database.documents.jobs]
        backend = "{BACKENDS[beanie]}"
        provider = {{ url = "{mongod.url}", database_name = "{database_name}" }}
        """
    )
    ended = subprocess.run(
        [python, "recipe.py"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "jobs: 1\n"), ended.stderr
