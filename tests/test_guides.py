"""Every snippet of the guides in docs/ is run, or validated, as it stands."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from pages.snippets import DOCS, Snippet, lay_out, snippets
from processes import clean_environ

from moorings.runtime.loading import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from mongod import Mongod
    from processes import Call, Program, Start

pytestmark = pytest.mark.slow  # processes of their own, each of which takes its second

GUIDES = ("start", "trio", "asyncio", "fastapi", "testing", "provider", "motor", "athomic")
PYTHON = [snippet for page in GUIDES for snippet in snippets(page, "python")]
LOCALHOST = "mongodb://localhost:27017/"

# What each program prints. Those of `start`, `fastapi` and `testing` have tests of their own.
PRINTS = {
    ("trio", 0): "orders: 3\n",
    ("trio", 1): "prepared generation 1\nprepared generation 2\n",
    ("trio", 2): "ready\n",
    ("asyncio", 0): "orders: 3\n",
    ("provider", 1): "{'1': {'text': 'hello'}}\n",
    ("motor", 1): "AsyncIOMotorDatabase 1\n",
    ("athomic", 0): "default_mongo main_app_db\n",
}
BEFORE = ("motor", 0)  # what is to be replaced: no program of ours


def execute(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=folder,
        env=clean_environ(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(page: str, number: int, folder: Path) -> Path:
    lay_out(page, folder)
    file = folder / "program.py"
    file.write_text(snippets(page, "python")[number].text)
    return file


def of_memory() -> list[tuple[str, int]]:
    return [key for key in PRINTS if key[0] not in {"motor", "athomic"}]


@pytest.mark.parametrize(("page", "number"), of_memory())
def test_each_program_does_what_its_page_says(tmp_path: Path, page: str, number: int) -> None:
    said = execute(tmp_path, program(page, number, tmp_path).name)
    assert said.endswith(PRINTS[page, number])


@pytest.mark.mongod
def test_motors_users_get_motors_database(tmp_path: Path, mongod: Mongod) -> None:
    file = program("motor", 1, tmp_path)
    assert LOCALHOST in file.read_text()
    file.write_text(file.read_text().replace(LOCALHOST, mongod.url))
    with mongod.client() as driver:
        driver.drop_database("jobs")
    assert execute(tmp_path, file.name) == PRINTS["motor", 1]


@pytest.mark.mongod
def test_athomics_settings_are_read_as_they_are(
    tmp_path: Path, mongod_auth: Mongod, mongod_password: str
) -> None:
    file = program("athomic", 0, tmp_path)
    said = execute(
        tmp_path,
        file.name,
        MOORINGS_DATABASE__DOCUMENTS__DEFAULT_MONGO__PROVIDER__URL=mongod_auth.url,
        MOORINGS_SECRET_DATABASE_MONGO_USERNAME="root",
        MOORINGS_SECRET_DATABASE_MONGO_PASSWORD=mongod_password,
    )
    assert said == PRINTS["athomic", 0]


def test_the_first_worker_runs_and_is_seen(start: Start, call: Call, tmp_path: Path) -> None:
    lay_out("start", tmp_path)
    worker: Program = start("run", "worker:main")
    worker.becomes_ready()
    assert json.loads(worker.get("/readyz")[1])["checks"] == {"jobs": "ok"}
    assert worker.get("/metrics")[0] == worker.get("/")[0] == 200
    assert "jobs" in call("status", "--url", worker.url()).stdout
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", ["fastapi", "testing"])
def test_each_page_about_tests_has_tests_that_pass(tmp_path: Path, page: str) -> None:
    lay_out(page, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    quietly = ("-p", "no:cacheprovider", "-p", "no:randomly", "-W", "ignore::DeprecationWarning")
    assert "2 passed" in execute(tmp_path, "-m", "pytest", "-q", *quietly)


def test_every_program_is_run_above() -> None:
    run = PRINTS.keys() | {BEFORE}
    for snippet in PYTHON:
        in_a_file = bool(snippet.file)
        assert in_a_file != ((snippet.page, snippet.number) in run), str(snippet)


@pytest.mark.parametrize("page", sorted(path.stem for path in DOCS.glob("*.md")))
def test_every_settings_file_is_valid(page: str) -> None:
    for snippet in snippets(page, "toml"):
        document = tomllib.loads(snippet.text)
        if "default" in document:
            load_settings(document, environ={})
        else:
            assert "project" in document, str(snippet)


@pytest.mark.parametrize("page", sorted(path.stem for path in DOCS.glob("*.md")))
def test_every_command_exists(call: Call, page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    shown = re.findall(r"^(?:\$ )?moorings (\w+)", _shell(page), re.MULTILINE)
    for command in {*shown, *re.findall(r"`moorings (\w+)", text)}:
        assert call(command, "--help").status == 0


def _shell(page: str) -> str:
    blocks: list[Snippet] = [*snippets(page, "sh"), *snippets(page, "console")]
    return "".join(snippet.text for snippet in blocks)
