"""Logging as the program sets it up: one shape for everybody's records, and never a secret."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from moorings.errors import SettingsError, SettingsProblem
from moorings.runtime import console
from moorings.runtime.log_records import LogEvent
from moorings.runtime.redaction import MASK, Redactor
from moorings.runtime.screen import print_problems, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    Logged = Callable[..., list[Any]]

SECRET = "unlucky-password"
LEAKS = 10
"""How often `_leaks` says it, at least."""


pytestmark = pytest.mark.usefixtures("logging_restored")  # `configure` changes the process


@pytest.fixture
def redactor() -> Redactor:
    return Redactor([SECRET])


@pytest.fixture
def logged(redactor: Redactor, capfd: pytest.CaptureFixture[str]) -> Logged:
    """Configures JSON, calls what it is given, and returns what that has logged, line by line.

    Configured within the test, since pytest exchanges stderr between a fixture and its test.
    """

    def lines(log: Callable[[], object], level: str = "DEBUG") -> list[Any]:
        console.configure(redactor, level=level, json=True)
        log()
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    return lines


def test_a_standard_record_becomes_one_line_of_json(logged: Logged) -> None:
    (line,) = logged(
        lambda: logging.getLogger("theirs").warning("%d of %d", 1, 2, extra={"shard": "a"})
    )
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "warning", "logger": "theirs", "event": "1 of 2", "shard": "a"}


def test_a_structlog_event_comes_out_alike(logged: Logged) -> None:
    """The program's own events take the same way, with their fields."""
    (line,) = logged(lambda: structlog.get_logger("theirs").warning("an event", shard="a"))
    del line["timestamp"]
    assert line == {"level": "warning", "logger": "theirs", "event": "an event", "shard": "a"}


def test_our_own_events_keep_their_structure(logged: Logged, redactor: Redactor) -> None:
    fields = {"connection": "main", "reason": "refused"}
    event = LogEvent(logging.WARNING, "connection lost", fields, at=0.25)
    assert logged(lambda: event.tell(redactor)) == [
        {
            "timestamp": "1970-01-01T00:00:00.250Z",
            "level": "warning",
            "logger": "moorings",
            "event": "connection lost",
            "connection": "main",
            "reason": "refused",
        }
    ]


def test_a_traceback_has_no_local_variables(logged: Logged) -> None:
    def fails(argument: str) -> None:
        raise ValueError(len(argument))

    def log() -> None:
        for logger in (logging.getLogger("theirs"), structlog.get_logger("theirs")):
            try:
                fails("its " + "value")
            except ValueError:
                logger.exception("it failed")

    lines = logged(log)
    assert len(lines) == 2
    for line in lines:
        assert "in fails" in line["exception"]
        assert "ValueError: 9" in line["exception"]
        assert "its value" not in line["exception"]


def _leaks() -> None:
    """Every way a secret was seen to take into a log."""
    for logger in (logging.getLogger("pymongo.command"), structlog.get_logger("theirs")):
        logger.debug("the word is %s", SECRET)
        logger.debug(f"the word is {SECRET}")  # noqa: G004 - a bad habit, and a frequent one
        logger.debug("%s", f"mongodb://me:{SECRET[::-1]}@host/")
        try:
            int(SECRET)
        except ValueError:
            logger.exception("it failed")
    logging.getLogger("theirs").debug("with more", extra={"more": {"deep": [SECRET]}})
    structlog.get_logger("theirs").debug("with more", more={"deep": [SECRET]})
    structlog.get_logger("theirs").debug("with an object", more=ValueError(SECRET))
    logging.getLogger("theirs").debug(ValueError(SECRET))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(SECRET, stacklevel=1)


@pytest.mark.parametrize("json", [True, False])
def test_no_secret_gets_out_whoever_logs_it(
    redactor: Redactor, capsys: pytest.CaptureFixture[str], json: bool
) -> None:
    console.configure(redactor, level="DEBUG", json=json)
    _leaks()
    said = capsys.readouterr().err
    assert said.count(MASK) >= LEAKS
    assert SECRET not in said
    assert SECRET[::-1] not in said


def test_without_a_redactor_the_same_would_get_out(capfd: pytest.CaptureFixture[str]) -> None:
    """The positive control of the test above."""
    console.configure(Redactor([SECRET], enabled=False), level="DEBUG", json=True)
    _leaks()
    assert capfd.readouterr().err.count(SECRET) >= LEAKS


def test_what_is_learnt_later_is_hidden_from_then_on(logged: Logged, redactor: Redactor) -> None:
    def log() -> None:
        redactor.learn("resolved-later")
        logging.getLogger("theirs").error("resolved-later")

    assert logged(log)[0]["event"] == MASK


def test_the_level_is_the_root_loggers(logged: Logged) -> None:
    def log() -> None:
        logging.getLogger("theirs").info("quiet")
        structlog.get_logger("theirs").info("quiet")

    assert logged(log, level="warning") == []


def test_configuring_twice_does_not_say_everything_twice(logged: Logged) -> None:
    assert logged(lambda: None) == []
    assert len(logged(lambda: logging.getLogger("theirs").error("once"))) == 1


def test_without_a_terminal_json_is_the_default(redactor: Redactor) -> None:
    assert not sys.stderr.isatty()
    assert not isinstance(console.configure(redactor), console.TerminalHandler)


def test_for_people_a_record_is_one_readable_line(
    redactor: Redactor, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = console.configure(redactor, json=False)
    assert isinstance(handler, console.TerminalHandler)
    LogEvent(logging.WARNING, "connection lost", {"connection": "main"}).tell(redactor)
    logging.getLogger("theirs").error("[red]a bracket[/red]")
    ours, theirs = capsys.readouterr().err.splitlines()
    assert "connection lost" in ours
    assert "connection=main" in ours
    assert "[red]a bracket[/red]" in theirs
    assert "logger=theirs" in theirs or "[theirs]" in theirs


# -- tables and problems


def test_a_table_is_aligned_plain_text_where_nobody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("name", "state"), [("a", "ready"), ("longer", "")], coloured="state")
    assert capsys.readouterr().out == "name    state\na       ready\nlonger\n"


def test_each_problem_stands_on_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_problems(
        SettingsError(
            SettingsProblem("a.toml", "default", "a.b", "is [bold]", "Mend it"),
            SettingsProblem("b.toml", "", "", "does not exist", "Create it"),
        )
    )
    assert capsys.readouterr().err == (
        "moorings: the settings cannot be used: 2 problems\n"
        "\na.toml [default] a.b\n  problem: is [bold]\n  cure:    Mend it\n"
        "\nb.toml\n  problem: does not exist\n  cure:    Create it\n"
    )
