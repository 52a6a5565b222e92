"""The password is in nothing that a program shows, however it was told and whatever goes wrong.

Real runs against a server that demands it: logs with the driver's at DEBUG, pages, metrics, the
command line's own output, `repr` of everything a program can lay hands on, errors and tracebacks.
The control: with redaction switched off the same search finds it.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest
from prometheus_client import CollectorRegistry
from secrecy import PASSWORD, USER, leaks
from settings_files import mongo, settings, write

from moorings import ConnectionNotReady, SettingsError, open_connections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mongod import Mongod
    from processes import Call, Program, Start

    from moorings import Transition

# Processes of their own, each of which takes its second.
pytestmark = [pytest.mark.mongod, pytest.mark.slow]

PROGRAM = """
import logging, os, traceback
import trio
from moorings import ConnectionNotReady

def show(*things):
    for thing in things:
        print(repr(thing), thing, flush=True)

def show_error(error):
    show(error, error.__cause__)
    traceback.print_exception(error)
    logging.getLogger("app").error("not ready", exc_info=error)

async def main(connections):
    if os.environ.get("REDACTION") == "off":
        connections.kernel.redactor.enabled = False
    driver = logging.getLogger("pymongo")     # the program's own wish, past the command line's
    driver.setLevel(logging.DEBUG)
    driver.addHandler(logging.FileHandler("driver.log"))
    connection = connections["main"]
    try:
        database = await connection.get_database(timeout=float(os.environ["PATIENCE"]))
    except ConnectionNotReady as error:
        show_error(error)
    else:
        await database.things.insert_one({"a": 1})
        show(database, database.client, database.things)
        await connection.restart()
    show(connections, connections.settings, connection, connection.settings, connection.provider)
    show(connection.settings.provider, connections.kernel, connections.kernel.redactor)
    show(connection.status, connections.statuses(), connection._actor, connection._actor.client)
    show(connection._actor.client and connection._actor.client.native)
    try:
        connections["mian"]
    except LookupError as error:
        show_error(error)
    print("all is shown", flush=True)
    while not await trio.Path("go-on").exists():
        await trio.sleep(0.01)
    told = os.environ["TOLD"]
    logging.getLogger("app").warning("using %s", told, extra={"url": told})
    raise RuntimeError("cannot use " + told)
"""

PAGES = ("/", "/connections", "/readyz", "/startupz", "/livez", "/metrics")


@dataclass(frozen=True)
class Told:
    """One way to tell a program its password."""

    provider: dict[str, Any]
    password: str = PASSWORD
    variables: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def settings(self, folder: Path) -> dict[str, Any]:
        """A settings file's mapping; what references lead to is written into `folder`."""
        security: dict[str, Any] = {"secrets": {"backend": "env"}}
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            security = {"secrets": {"backend": "file", "provider": {"base_path": str(folder)}}}
        connection = mongo("", retry={"attempts": 2}) | {"provider": self.provider}
        return settings({"main": connection}, security=security)


@pytest.fixture(scope="module")
def server(mongod_auth: Mongod, mongod_password: str) -> Iterator[Mongod]:
    """A server that `USER` may use with `PASSWORD`."""
    with mongod_auth.client(username="root", password=mongod_password) as client:
        client.admin.command("createUser", USER, pwd=PASSWORD, roles=["readWriteAnyDatabase"])
        yield mongod_auth
        client.admin.command("dropUser", USER)


REFERENCE = {"path": "database/mongo", "key": "url"}
PASSWORD_REFERENCE = {"path": "database/mongo", "key": "password"}
URL_VARIABLE = "MOORINGS_SECRET_DATABASE_MONGO_URL"

# What a program can start with, though not all of it will connect.
CONNECTS = [
    "in the URL",
    "beside the URL",
    "URL by environment",
    "URL by file",
    "password by file",
]
STARTS = [
    *CONNECTS,
    "wrong password",
    "not escaped, by environment",
    "bad option, by file",
]
# What is refused before anything starts.
REFUSED = ["not escaped", "slash not escaped", "bad option beside it", "unknown key", "no string"]


def told(way: str, address: str) -> Told:
    """How the password is told in that `way`, to whoever uses the server at `address`."""
    database = {"database_name": "secrecy"}
    url = f"mongodb://{USER}:{quote_plus(PASSWORD)}@{address}/?authSource=admin"
    bare = {"url": f"mongodb://{address}/?authSource=admin", "username": USER} | database
    by_reference = {"url": REFERENCE} | database
    bad_option = f"{url}&maxPoolSize={quote_plus(PASSWORD)}"
    naked = f"mongodb://{USER}:{PASSWORD}@{address}/"
    wrong, slashed = PASSWORD[::-1], PASSWORD.replace("@", "")
    ways = {
        "in the URL": Told({"url": url} | database),
        "beside the URL": Told(bare | {"password": PASSWORD}),
        "URL by environment": Told(by_reference, variables={URL_VARIABLE: url}),
        "URL by file": Told(by_reference, files={"database/mongo/url": url}),
        "password by file": Told(
            bare | {"password": PASSWORD_REFERENCE}, files={"database/mongo/password": PASSWORD}
        ),
        "wrong password": Told(bare | {"password": wrong}, wrong),
        "not escaped, by environment": Told(by_reference, variables={URL_VARIABLE: naked}),
        "bad option, by file": Told(by_reference, files={"database/mongo/url": bad_option}),
        "not escaped": Told({"url": naked} | database),
        "slash not escaped": Told(
            {"url": f"mongodb://{USER}:{slashed}@{address}/"} | database, slashed
        ),
        "bad option beside it": Told({"url": url, "options": {"maxPoolSize": -3}} | database),
        "unknown key": Told(bare | {"pasword": PASSWORD}),
        "no string": Told(bare | {"password": [PASSWORD]}),
    }
    return ways[way]


def output_of(program: Program, folder: Path) -> str:
    """Everything that a run has shown, its pages included; it is ended by its own error."""
    program.said("all is shown")
    shown = [program.get(page)[1] for page in PAGES]
    (folder / "go-on").touch()
    program.ended()
    return "\n".join([*shown, program.stdout, program.stderr, (folder / "driver.log").read_text()])


def arrange(way: str, server: Mongod, folder: Path) -> tuple[Told, dict[str, str]]:
    how = told(way, server.address)
    write(folder, how.settings(folder / "secrets"))
    (folder / "app.py").write_text(PROGRAM)
    url = f"mongodb://{USER}:{quote_plus(how.password)}@{server.address}/"
    patience = "30" if way in CONNECTS else "1"
    return how, how.variables | {"TOLD": url, "PATIENCE": patience}


def quick(ways: list[str], *wanted: str) -> list[Any]:
    """All `ways`, those that are not `wanted` among the slow tests."""
    return [pytest.param(way, marks=() if way in wanted else pytest.mark.slow) for way in ways]


@pytest.mark.parametrize("way", quick(STARTS, "in the URL", "wrong password"))
def test_a_run_never_shows_its_password(
    way: str, server: Mongod, start: Start, tmp_path: Path
) -> None:
    how, variables = arrange(way, server, tmp_path)
    program = start("run", "app:main", "--log-level", "debug", **variables)
    shown = output_of(program, tmp_path)
    assert not leaks(shown, how.password)
    # The search has something to search: the driver's records, and the program's own error.
    assert ("topologyId" in shown) == (way in [*CONNECTS, "wrong password"])
    assert "RuntimeError: cannot use mongodb://" in shown


def test_the_same_search_finds_it_when_redaction_is_off(
    server: Mongod, start: Start, tmp_path: Path
) -> None:
    how, variables = arrange("in the URL", server, tmp_path)
    program = start("run", "app:main", "--log-level", "debug", **variables, REDACTION="off")
    shown = output_of(program, tmp_path)
    assert quote_plus(how.password) in leaks(shown)
    assert len(re.findall(re.escape(quote_plus(how.password)), shown)) >= 3  # log, extra, traceback


@pytest.mark.parametrize("way", quick(STARTS, "wrong password"))
@pytest.mark.parametrize("command", [("config",), ("config", "--json"), ("check",)], ids=" ".join)
def test_commands_never_show_it(
    command: tuple[str, ...], way: str, server: Mongod, call: Call, tmp_path: Path
) -> None:
    how, variables = arrange(way, server, tmp_path)
    program = call(*command, **variables)
    program.ended()
    assert program.stdout
    assert not leaks(program.stdout + program.stderr, how.password)


@pytest.mark.parametrize("way", quick(REFUSED, "not escaped"))
def test_settings_that_are_refused_are_not_quoted(
    way: str, server: Mongod, start: Start, tmp_path: Path
) -> None:
    how, variables = arrange(way, server, tmp_path)
    program = start("run", "app:main", "--log-level", "debug", **variables)
    assert program.ended() == 78
    assert program.stderr
    assert not leaks(program.stdout + program.stderr, how.password)


# -- within one's own process: nobody filters the log there


@pytest.mark.parametrize("way", [*STARTS, *REFUSED])
async def test_a_program_of_ones_own_is_shown_none_either(
    way: str,
    server: Mongod,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Errors with their whole chain, transitions as observers see them, the unfiltered log."""
    how = told(way, server.address)
    for name, value in how.variables.items():
        monkeypatch.setenv(name, value)
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "pymongo")
    shown: list[str] = []

    def observe(transition: Transition) -> None:
        shown.append(f"{transition!r} {transition}")

    try:
        async with open_connections(
            how.settings(tmp_path), metrics=CollectorRegistry(), observers=[observe]
        ) as connections:
            shown.append(f"{connections!r} {connections.settings!r} {connections.statuses()!r}")
            await connections.wait_ready(timeout=30.0 if way in CONNECTS else 0.5)
            shown.append(repr(connections.database()))
    except (ConnectionNotReady, SettingsError) as error:
        shown += [repr(error), str(error), *traceback.format_exception(error)]
        assert way not in CONNECTS
    else:
        assert way in CONNECTS
    records = [f"{record.__dict__!r} {record.getMessage()}" for record in caplog.records]
    assert shown
    assert not leaks("\n".join([*shown, *records, caplog.text]), how.password)
