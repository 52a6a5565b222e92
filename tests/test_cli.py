"""The command line: what each command says, and with which status it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest
from typer.main import get_command

from moorings.runtime.cli import app, main
from moorings.runtime.state import edges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mongod import Mongod
    from processes import Call, Start

LOCAL = '[default.database.documents.main]\nbackend = "local"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no variable of Moorings'."""
    monkeypatch.chdir(tmp_path)
    for variable in [key for key in os.environ if key.startswith("MOORINGS_")]:
        monkeypatch.delenv(variable)
    return tmp_path


@pytest.fixture
def moorings(here: Path, logging_restored: None, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process: status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


# -- the command line itself


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("run", "--frobnicate"),
        ("run", "app:main", "app:main"),
        ("run", "--host", "curio"),
        ("run", "--log-level", "loud"),
        ("check", "--wait", "soon"),
        ("states", "--format", "svg"),
    ],
)
def test_a_wrong_command_line_is_64(moorings: Any, arguments: tuple[str, ...]) -> None:
    status, out, err = moorings(*arguments)
    assert status == 64
    assert "Usage: moorings" in err + out
    assert "Traceback" not in err


@pytest.mark.parametrize("command", get_command(app).commands)  # type: ignore[attr-defined]
def test_every_command_has_the_same_two_options_and_an_example(moorings: Any, command: str) -> None:
    status, out, _ = moorings(command, "--help")
    assert status == 0
    assert "--settings" in out
    assert "--env" in out
    assert f"'moorings {command}" in out


def test_it_says_its_version(moorings: Any) -> None:
    status, out, _ = moorings("--version")
    assert status == 0
    assert re.fullmatch(r"moorings \d+\.\d+\.\d+\S*\n", out)


# -- run: what there is to run


def test_without_any_settings_it_serves_one_connection_in_memory(start: Start) -> None:
    """It warns that the data is lost, says where to look, and Ctrl-C ends it with 0."""
    program = start("run")
    assert "lost at exit" in program.said("no settings were named")
    where = program.said("serving http://127.0.0.1:")
    assert "/readyz" in where
    assert "/metrics" in where
    program.becomes_ready()
    assert 'backend="local"' in program.get("/metrics")[1]
    program.signal(signal.SIGINT)
    assert program.ended() == 0
    assert {line["level"] for line in program.log} == {"warning", "info"}


def test_an_environment_is_never_the_embedded_default(call: Call) -> None:
    """Whoever names one has settings in mind: a missing file must not mean a fresh database."""
    program = call("run", MOORINGS_ENV="production")
    assert program.ended() == 78
    assert "./settings.toml" in program.stderr


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("app", "not of the form module:function"),
        ("nowhere:main", "there is no module 'nowhere'"),
        ("nowhere.deeper:main", "there is no module 'nowhere'"),
        ("app:mian", "did you mean 'main'?"),
        ("app:plain", "not an async function"),
        ("app:Class", "not an async function"),
    ],
)
def test_what_cannot_be_run_is_64_and_says_why(
    call: Call, tmp_path: Path, target: str, why: str
) -> None:
    (tmp_path / "app.py").write_text(
        "async def main(c): pass\ndef plain(c): pass\n"
        "class Class:\n    async def __call__(self, c): pass\n"
    )
    program = call("run", target)
    assert program.ended() == 64
    assert why in " ".join(program.stderr.replace("│", " ").split())
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize("target", ["app:main", "app:instance", "app:Namespace.main", "app:partly"])
def test_every_kind_of_async_function_runs(call: Call, tmp_path: Path, target: str) -> None:
    (tmp_path / "app.py").write_text(
        """
import functools

async def main(connections):
    print("ran")

class Callable:
    async def __call__(self, connections):
        print("ran")

class Namespace:
    @staticmethod
    async def main(connections):
        print("ran")

async def _two(word, connections):
    print(word)

instance = Callable()
partly = functools.partial(_two, "ran")
"""
    )
    program = call("run", target)
    assert program.ended() == 0, program.stderr
    assert program.stdout == "ran\n"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named"),
        ("1 / 0", "ZeroDivisionError"),
        ("def :", "SyntaxError"),
    ],
)
def test_an_error_inside_of_the_module_shows_its_own_traceback(
    call: Call, tmp_path: Path, code: str, what: str
) -> None:
    """Without our frames, and without the import system's."""
    (tmp_path / "app.py").write_text(code)
    program = call("run", "app:main")
    assert program.ended() == 1
    (failed,) = (line for line in program.log if "importing app failed" in line["event"])
    assert what in failed["exception"]
    assert "app.py" in failed["exception"]
    assert "targets.py" not in failed["exception"]
    assert "importlib" not in failed["exception"]


# -- settings that cannot be used

PROBLEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "TOML syntax": (
        "[default.database\n",
        ("settings.toml", "is not TOML", "line 1", "Mend the syntax"),
    ),
    "duplicate key": (
        '[default.runtime]\nname = "a"\nname = "b"\n',
        ("settings.toml", "Cannot overwrite a value", "line 3", "Mend the syntax"),
    ),
    "missing layer": (
        '[database.documents.main]\nbackend = "local"\n',
        ("settings.toml", "database", "outside of any layer", "[default.database."),
    ),
    "unknown key": (
        LOCAL + "requierd = true\n",
        (
            "settings.toml [default] database.documents.main.requierd",
            "is not known",
            "did you mean 'required'?",
        ),
    ),
    "value out of range": (
        LOCAL + "retry = { attempts = 0 }\n",
        (
            "settings.toml [default] database.documents.main.retry.attempts",
            "greater than or equal to 1",
            "Choose a number in that range",
        ),
    ),
    "driver option's name": (
        """
        [default.database.documents.main]
        backend = "mongo"
        provider = { url = "mongodb://me:unlucky@host/?conectTimeoutMS=3", database_name = "x" }
        """,
        (
            "settings.toml [default] database.documents.main.provider.url",
            "'conectTimeoutMS' is no option of the driver",
            "did you mean 'connectTimeoutMS'?",
        ),
    ),
    "driver option's value": (
        """
        [default.database.documents.main]
        backend = "mongo"
        provider = { url = "mongodb://me:unlucky@host/?connectTimeoutMS=x", database_name = "x" }
        """,
        (
            "settings.toml [default] database.documents.main.provider.url",
            "'connectTimeoutMS' has a bad value",
            "cure:",
        ),
    ),
    "malformed reference": (
        """
        [default.database.documents.main]
        backend = "mongo"
        provider = { url = { path = "x" }, database_name = "x" }
        """,
        (
            "settings.toml [default] database.documents.main.provider.url",
            "malformed reference",
            'Write { path = "…", key = "…" }',
        ),
    ),
    "unknown backend": (
        '[default.database.documents.main]\nbackend = "mango"\n',
        (
            "settings.toml [default] database.documents.main.backend",
            "no provider is registered under 'mango'",
            "did you mean 'mongo'?",
        ),
    ),
    "port out of range": (
        LOCAL + "[default.runtime.exporter]\nport = 70000\n",
        (
            "settings.toml [default] runtime.exporter.port",
            "less than or equal to 65535",
            "Choose a number in that range",
        ),
    ),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_problem_of_the_settings_says_where_what_and_how_to_mend_it(
    moorings: Any, here: Path, kind: str
) -> None:
    """File, layer, key, problem and cure; status 78, no traceback, no password."""
    toml, expected = PROBLEMS[kind]
    (here / "settings.toml").write_text(toml)
    status, out, err = moorings("config")
    assert status == 78
    assert out == ""
    for part in expected:
        assert part in err
    assert "problem:" in err
    assert "cure:" in err
    assert "Traceback" not in err
    assert "unlucky" not in err


def test_a_bad_override_names_its_variable(
    moorings: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "settings.toml").write_text(LOCAL)
    monkeypatch.setenv("MOORINGS_RUNTIME__EXPORTER__PORT", "many")
    monkeypatch.setenv("MOORINGS_RUNTIME__EXPORTR__HOST", "::1")
    status, _, err = moorings("config")
    assert status == 78
    assert "MOORINGS_RUNTIME__EXPORTER__PORT runtime.exporter.port" in err
    assert "Write a whole number" in err
    assert "MOORINGS_RUNTIME__EXPORTR__HOST runtime.exportr" in err
    assert "did you mean 'exporter'?" in err


def test_all_problems_are_told_at_once(moorings: Any, here: Path) -> None:
    (here / "settings.toml").write_text(
        LOCAL + 'nonsense = 1\nretry = { max = -1.0 }\n[default.runtime]\nstartup = "never"\n'
    )
    status, _, err = moorings("config")
    assert status == 78
    assert "3 problems" in err
    assert err.count("cure:") == 3


def test_an_absent_file_is_named(moorings: Any) -> None:
    status, _, err = moorings("check", "--config-only", "--settings", "nope.toml")
    assert status == 78
    assert "nope.toml" in err
    assert "does not exist" in err
    assert "Create it" in err


def test_an_unknown_environment_is_named_with_the_nearest(moorings: Any, here: Path) -> None:
    (here / "settings.toml").write_text(LOCAL + '[production.runtime]\nname = "p"\n')
    status, _, err = moorings("config", "--env", "prodution")
    assert status == 78
    assert "settings.toml [prodution]" in err
    assert "did you mean 'production'?" in err


def test_without_settings_check_names_both_places(moorings: Any) -> None:
    """The embedded default is for `run` alone: a check of nothing must not succeed."""
    status, _, err = moorings("check", "--config-only")
    assert status == 78
    assert "./settings.toml" in err
    assert "MOORINGS_SETTINGS" in err


def test_a_slip_in_a_tables_name_does_not_pass_unnoticed(
    moorings: Any, here: Path, start: Start
) -> None:
    """What is not ours belongs to others; with nothing of ours beside it, that is said."""
    (here / "settings.toml").write_text(
        '[default.runtime.exporter]\nport = 0\n[default.databse.documents.main]\nbackend = "local"'
    )
    said = "no connection is enabled in settings.toml; not ours, left alone: default.databse"
    assert said in moorings("check")[2]
    start("run").said(said)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_a_problem_of_the_settings(call: Call, tmp_path: Path, taken: int) -> None:
    """It names the file, or the variable, that the port was set in."""
    (tmp_path / "settings.toml").write_text(LOCAL + f"[default.runtime.exporter]\nport = {taken}\n")
    program = call("run", MOORINGS_RUNTIME__EXPORTER__PORT=str(taken))
    assert program.ended() == 78
    assert "MOORINGS_RUNTIME__EXPORTER__PORT runtime.exporter.port" in program.stderr
    assert f"127.0.0.1:{taken} is taken" in program.stderr
    assert "Choose another port" in program.stderr
    assert "Traceback" not in program.stderr


# -- check


def mongo(url: str, name: str = "main", more: str = "") -> str:
    return (
        f'[default.database.documents.{name}]\nbackend = "mongo"\n{more}'
        f'provider = {{ url = "{url}", database_name = "app" }}\n'
    )


def test_check_reports_what_is_ready(start: Start, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(LOCAL)
    program = start("check")
    assert program.ended() == 0
    header, row = program.stdout.splitlines()
    assert header.split() == ["name", "backend", "state", "time", "reason"]
    assert row.split()[:3] == ["main", "local", "ready"]
    assert program.stderr == ""


# What is tried once only, and not for long, so that a failure is told soon.
ONCE = "retry = { attempts = 1 }\nhealth = { timeout = 1.0 }\n"


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("mongodb://127.0.0.1:1/", 69, "refused"),
        ("mongodb://nowhere.invalid/", 68, "dns"),
    ],
)
def test_check_says_why_a_server_is_not_reached(
    call: Call, tmp_path: Path, url: str, status: int, reason: str
) -> None:
    (tmp_path / "settings.toml").write_text(mongo(url, more=ONCE))
    program = call("check")
    assert program.ended() == status, program.stdout
    assert f"{reason}:" in program.stdout.splitlines()[1]


@pytest.mark.mongod
def test_check_says_when_credentials_are_refused(
    call: Call, tmp_path: Path, mongod_auth: Mongod
) -> None:
    """77, at the first failure: nothing is retried hot; and the password is nowhere."""
    url = f"mongodb://root:wrong-password@{mongod_auth.address}/?authSource=admin"
    (tmp_path / "settings.toml").write_text(mongo(url))
    program = call("check", "--log-level", "debug")
    assert program.ended() == 77
    assert "auth:" in program.stdout.splitlines()[1]
    assert "wrong-password" not in program.stdout + program.stderr


@pytest.mark.mongod
def test_nothing_of_a_password_is_logged_even_by_the_driver_at_debug(
    start: Start, tmp_path: Path, mongod_auth: Mongod, mongod_password: str
) -> None:
    (tmp_path / "settings.toml").write_text(mongo(mongod_auth.url_with_credentials))
    program = start("check", "--log-level", "debug")
    assert program.ended() == 0, program.stderr
    assert any(line["logger"].startswith("pymongo") for line in program.log)
    for spelling in (mongod_password, quote_plus(mongod_password)):
        assert spelling not in program.stderr


def test_only_required_connections_decide(call: Call, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        LOCAL + mongo("mongodb://127.0.0.1:1/", "extra", "required = false\n" + ONCE)
    )
    both = call("check")
    named = call("check", "extra")
    assert both.ended() == 0
    assert "mongo (optional)  failed" in both.stdout
    assert named.ended() == 69, "whoever names it wants to know of it"
    assert "main" not in named.stdout


def pymongo(url: str, name: str) -> str:
    return mongo(url, name, ONCE).replace('"mongo"', '"pymongo"')


@pytest.mark.mongod
def test_check_takes_backends_for_asyncio_alone_along(
    call: Call, tmp_path: Path, mongod: Mongod
) -> None:
    """In the settings' order, whatever each of them runs on."""
    settings = (pymongo(mongod.url, "first"), LOCAL, pymongo(mongod.url, "last"))
    (tmp_path / "settings.toml").write_text("".join(settings))
    program = call("check")
    assert program.ended() == 0, program.stderr
    rows = [line.split()[:3] for line in program.stdout.splitlines()[1:]]
    assert rows == [
        ["first", "pymongo", "ready"],
        ["main", "local", "ready"],
        ["last", "pymongo", "ready"],
    ]


def seconds_in(row: str) -> float:
    """How long a row of `check` says that it took."""
    (found,) = re.findall(r" (\d+\.\d) s ", row)
    return float(found)


def test_check_says_why_on_asyncio_too(call: Call, tmp_path: Path) -> None:
    url = "mongodb://127.0.0.1:1/"
    (tmp_path / "settings.toml").write_text(LOCAL + pymongo(url, "other"))
    program = call("check")
    assert program.ended() == 69
    assert "Connect call failed" in program.stdout.splitlines()[2]
    waited = call("check", "other", "--wait", "0.2")
    assert waited.ended() == 69
    assert seconds_in(waited.stdout.splitlines()[1]) >= 0.2


def test_check_waits_as_long_as_it_is_told(call: Call, tmp_path: Path) -> None:
    """`--wait` goes on after an episode has failed, and ends when the time is over."""
    (tmp_path / "settings.toml").write_text(mongo("mongodb://127.0.0.1:1/", more=ONCE))
    program = call("check", "--wait", "1.5")
    assert program.ended() == 69
    (row,) = program.stdout.splitlines()[1:]
    assert row.split()[:2] == ["main", "mongo"]
    assert "refused" in row
    assert seconds_in(row) >= 1.5


@pytest.mark.mongod
def test_check_waits_for_a_server_that_comes_late(
    start: Start, tmp_path: Path, mongod_factory: Callable[..., Mongod]
) -> None:
    server = mongod_factory()
    server.kill()
    (tmp_path / "settings.toml").write_text(mongo(server.url, more=ONCE))
    program = start("check", "--wait", "60", "--log-level", "warning")
    program.said("connection not established")
    server.start()
    assert program.ended() == 0
    assert "ready" in program.stdout


def test_check_can_leave_the_world_alone(moorings: Any, here: Path) -> None:
    (here / "settings.toml").write_text(mongo("mongodb://127.0.0.1:1/") + "enabled = false\n")
    status, out, _ = moorings("check", "--config-only")
    assert status == 0
    assert out == "settings.toml: valid; 0 of 1 connections enabled\n"


def test_check_of_an_unknown_connection_names_the_known(call: Call, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(LOCAL)
    program = call("check", "mian")
    assert program.ended() == 64
    assert "did you mean 'main'?" in " ".join(program.stderr.replace("│", " ").split())


# -- config


def test_config_shows_every_value_with_its_origin_and_no_secret(
    moorings: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "settings.toml").write_text(
        mongo("mongodb://me:unlucky@host/")
        + '[default.logging]\nlevel = "x"\n[production.runtime]\nname = "p"\n'
    )
    monkeypatch.setenv("MOORINGS_RUNTIME__DRAIN_DELAY", "2")
    status, out, _ = moorings("config", "--env", "production")
    assert status == 0
    lines = {line.partition(" = ")[0]: line for line in out.splitlines()}
    documents = "database.documents.main"
    assert lines[f"{documents}.backend"].endswith("# settings.toml [default]")
    assert lines["runtime.name"].endswith("# settings.toml [production]")
    assert lines["runtime.drain_delay"].endswith("# MOORINGS_RUNTIME__DRAIN_DELAY")
    assert lines["runtime.startup"].endswith("# default")
    assert "# not ours, left alone: default.logging" in out
    assert "unlucky" not in out


def test_config_is_toml(moorings: Any) -> None:
    import tomllib

    status, out, _ = moorings("config")
    assert status == 0
    assert tomllib.loads(out)["database"]["documents"]["default_local"]["backend"] == "local"
    assert "# embedded default" in out


def test_config_is_json_when_asked(moorings: Any, here: Path) -> None:
    (here / "settings.toml").write_text(LOCAL)
    status, out, _ = moorings("config", "--json")
    assert status == 0
    shown = json.loads(out)
    assert shown["origins"]["database.documents.main.backend"] == "settings.toml [default]"
    assert shown["files"] == ["settings.toml"]


def test_config_prints_the_schema(moorings: Any) -> None:
    status, out, _ = moorings("config", "--schema")
    assert status == 0
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


# -- states, backends


def test_states_are_drawn_from_the_table(moorings: Any) -> None:
    _, text, _ = moorings("states")
    _, mermaid, _ = moorings("states", "--format", "mermaid")
    rows = [tuple(line.split()) for line in text.splitlines()[1:]]
    assert rows == [tuple(edge) for edge in edges()]
    assert mermaid.startswith("stateDiagram-v2\n    [*] --> init\n")
    for source, event, target in edges():
        assert f"    {source} --> {target}: {event}\n" in mermaid


def test_backends_are_listed_with_who_brought_them(moorings: Any) -> None:
    status, out, _ = moorings("backends")
    assert status == 0
    (local,) = (line for line in out.splitlines() if line.startswith("local "))
    assert "moorings.providers.local:LocalDBProvider" in local
    assert local.endswith("yes")


def test_a_backend_that_cannot_be_imported_says_why(start: Start, tmp_path: Path) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[moorings.document_databases]\nbroken = nowhere_at_all:Provider\n"
    )
    program = start("backends", PYTHONPATH=str(tmp_path))
    assert program.ended() == 0
    (broken,) = (line for line in program.stdout.splitlines() if line.startswith("broken "))
    assert "broken 1.0" in broken
    assert "ModuleNotFoundError: No module named 'nowhere_at_all'" in broken


# -- on a terminal


def test_on_a_terminal_run_shows_a_live_table(terminal: Any, tmp_path: Path) -> None:
    """Log lines stand above it, Ctrl-C ends it, and the cursor is given back."""
    keyboard, wait = terminal(tmp_path, "run")
    wait("no settings were named")
    wait("next attempt")
    wait("\x1b[32mready")
    wait("/metrics")
    os.write(keyboard, b"\x03")
    shown = wait("\x1b[?25h")
    assert "SIGINT: shutting down" in shown
    assert '"event"' not in shown


def test_colours_can_be_declined(terminal: Any, tmp_path: Path) -> None:
    keyboard, wait = terminal(tmp_path, "run", NO_COLOR="1")
    wait("ready")
    os.write(keyboard, b"\x03")
    shown = wait("\x1b[?25h")
    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", shown) is None


def test_even_an_abrupt_end_gives_the_cursor_back(terminal: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import trio\nasync def main(c):\n    with trio.CancelScope(shield=True):\n"
        "        print('holding', flush=True)\n        await trio.sleep_forever()\n"
    )
    keyboard, wait = terminal(tmp_path, "run", "app:main")
    wait("holding")
    os.write(keyboard, b"\x03")
    wait("shutting down")
    os.write(keyboard, b"\x03")
    wait("again: leaving at once")
    wait("\x1b[?25h")
