"""The recipes of docs/recipes.md, as they stand, with the real servers that they are for."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from settings_files import DEFAULTS, mongo, settings, write

if TYPE_CHECKING:
    from mongod import Mongod, MongodFactory
    from processes import Program, Start

pytestmark = [pytest.mark.slow, pytest.mark.mongod]

ROOT = Path(__file__).parents[1]
README, RECIPES = ROOT / "README.md", ROOT / "docs" / "recipes.md"
SOON = 30.0

# Tasks are files of a folder: no broker is needed.
CELERY = """
broker_url = "filesystem://"
broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control",
}
"""


def code(page: Path, part: str) -> str:
    """The block of Python with `part` in it."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    [found] = (block for block in blocks if part in block)
    return found


def command(part: str) -> list[str]:
    return next(line.split() for line in RECIPES.read_text().splitlines() if line.startswith(part))


def test_gunicorns_workers_open_their_connections_after_the_fork(
    start_python: Start, tmp_path: Path, mongod: Mongod
) -> None:
    write(tmp_path, settings({"jobs": mongo(mongod.url, backend="pymongo")}))
    (tmp_path / "app.py").write_text(code(README, "FastAPI("))
    program = start_python("-m", *command("gunicorn "), "--bind", "127.0.0.1:0")
    program.becomes_ready("/moorings/readyz")
    answers = [program.get("/done") for _ in range(30)]
    assert {status for status, _ in answers} <= {200, 503}  # one worker may be later
    assert answers[-1][0] == 200
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    assert program.stderr.count("Application shutdown complete") == 2
    assert "Traceback" not in program.stderr
    assert "HostMismatch" not in program.stderr


def test_celerys_workers_open_their_connections_after_the_fork(
    start_python: Start, tmp_path: Path, mongod_factory: MongodFactory
) -> None:
    """Tasks that meet an outage are retried, and done when it is over."""
    server = mongod_factory()
    write(tmp_path, settings({"jobs": mongo(server.url, health=DEFAULTS, backend="pymongo")}))
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    (tmp_path / "celeryconfig.py").write_text(CELERY)
    (tmp_path / "tasks.py").write_text(code(RECIPES, "celery"))
    worker = start_python("-m", *command("celery "), "--loglevel", "INFO")
    worker.said(" ready.")
    _send(start_python, range(20))
    _become_done(worker, server, range(20))
    server.kill()
    _send(start_python, range(20, 25))
    worker.said("Retry in")
    server.start()
    _become_done(worker, server, range(20, 25))
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert "HostMismatch" not in worker.stderr


def _send(start_python: Start, numbers: range) -> None:
    program = f"from tasks import work\nfor n in {numbers!r}: work.delay(n)"
    sender = start_python("-c", program)
    assert sender.ended() == 0, sender.stderr


def _become_done(worker: Program, server: Mongod, numbers: range) -> None:
    deadline = time.monotonic() + SOON
    with server.client() as driver:
        while not set(numbers) <= set(driver.app.done.distinct("job")):
            assert time.monotonic() < deadline, worker.stderr
            time.sleep(0.1)
