"""What a newcomer does: README, settings of one's own, a real server that is killed and comes back.

Everything is done as it is written down, by a shell, in real processes; only the ports are others.
"""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mongod import free_port, servers, start_server
from pages.snippets import snippets
from processes import Program, clean_environ
from prometheus_server import scraping

from moorings.grafana.products import rules

from .transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mongod import Mongod
    from prometheus_server import Prometheus

ROOT: Final = Path(__file__).parents[2]
EXPORTER, SERVER, PROMETHEUS = "127.0.0.1:9464", "localhost:27017", "localhost:9090"
FASTER: Final = 60
"""Prometheus's time: what waits for two minutes in production waits for two seconds."""
ALERT: Final = "ConnectionDown"
FIRING: Final = f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}'
QUERY: Final = f"promtool query instant http://{PROMETHEUS} 'ALERTS{{alertname=\"{ALERT}\"}}'"
SOON: Final = 120.0

HEAD = """\
<!-- Made by `python -m tests.newcomer`, which does all this; `make test-operators` does, too. -->

# A walk through an outage

A program has done all this, as a newcomer would, and wrote down what came back: settings, a worker,
a real MongoDB server that is killed and comes back, and each place where that is seen. Times are
left out (`…`)."""


def walk() -> str:
    """Do it all, and return the page. Takes about half a minute."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="newcomer-")))
        port = free_port()
        environ = _environ(port)
        page = Transcript(folder, environ)
        page.let(EXPORTER, f"127.0.0.1:{port}")
        page.say(HEAD)
        _look_around(page, environ)
        server = start_server(stack.enter_context(servers()))
        page.let(SERVER, server.address)
        _make_a_program(page)
        program = stack.enter_context(_running(folder, environ))
        _see_it_work(page, program)
        prometheus = stack.enter_context(_watching(page.real(EXPORTER), folder))
        page.let(f"http://{PROMETHEUS}", prometheus.url)
        prometheus.becomes("up", 1)
        _take_the_database_away(page, program, server)
        _be_woken(page, prometheus)
        _bring_it_back(page, program, server)
        _sleep_again(page, prometheus)
        _end(page, program)
        return page.text


def _environ(port: int) -> dict[str, str]:
    """A newcomer's, who has activated the virtual environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return clean_environ(MOORINGS_RUNTIME__EXPORTER__PORT=str(port), PATH=path, COLUMNS="200")


def _look_around(page: Transcript, environ: dict[str, str]) -> None:
    page.say("## Before anything is configured")
    page.say("In a checkout, `make run` serves one connection to a database in memory.")
    with subprocess.Popen(
        ["make", "--silent", "--no-print-directory", "run"],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as make:
        assert make.stdout is not None
        try:
            said = [next(make.stdout), next(make.stdout)]
            page.show("$ make run\n" + "".join(said), "console")
            assert '"healthy"' in page.type(f"curl --silent --show-error {EXPORTER}/readyz")
        finally:
            os.killpg(make.pid, signal.SIGINT)  # Ctrl-C: a terminal tells all that it started
            said = list(make.stdout)
    assert "shutting down" in "".join(said)
    page.say("Ctrl-C ends it.")


def _make_a_program(page: Transcript) -> None:
    page.say("## A program of one's own")
    page.say(f"A MongoDB server listens at {SERVER}, without a password.")
    page.say(
        "`. .venv/bin/activate` makes `moorings` known to the shell. What follows was written to a "
        "pipe: on a terminal `run` shows a live table, and logs lines for people."
    )
    settings = next(s for s in snippets("start", "toml") if "mongodb://" in s.text)
    page.file("settings.toml", "toml", settings.text)
    worker = next(s for s in snippets("start", "python") if s.file == "worker.py")
    page.file("worker.py", "python", worker.text)
    assert "ready" in page.type("moorings check")


@contextmanager
def _running(folder: Path, environ: dict[str, str]) -> Iterator[Program]:
    program = Program("-m", "moorings", "run", "worker:main", cwd=folder, environ=environ)
    try:
        yield program
    finally:
        program.finish()


def _watching(target: str, folder: Path) -> AbstractContextManager[Prometheus]:
    known, data = folder / "rules.yml", folder / "data"
    known.write_text(rules(scale=1 / FASTER))
    data.mkdir()
    return scraping(target, data, job="worker", interval="1s", rules=known)


def _see_it_work(page: Transcript, program: Program) -> None:
    page.say("## It works")
    program.becomes_ready()
    page.show("$ moorings run worker:main\n" + program.said("serving"), "console")
    page.say("From another terminal:")
    page.type("moorings status")
    assert '"healthy"' in page.type(f"curl --silent {EXPORTER}/readyz")
    page.type(f"curl --silent {EXPORTER}/metrics | grep '^moorings_connection_ready'")
    page.say(f"<http://{EXPORTER}/> shows the same to people. At its top:")
    page.show(_headline(program))


def _take_the_database_away(page: Transcript, program: Program, server: Mongod) -> None:
    page.say("## The database is killed")
    server.kill()
    page.say(
        "Its process gets a `kill -9`. At once, in the log, one line, with what the driver met\n"
        "first: a connection that broke (`network`), or one that was `refused`."
    )
    lost = program.said('"connection lost"')
    assert json.loads(lost)["reason"] in {"network", "refused"}
    page.show(re.sub(r'("reason"|"error"): "[^"]*"', r'\1: "…"', lost))
    page.say(
        "The worker waits in `get_database`. Some attempts follow, the cause is known by the\n"
        "first; then the connection is `failed`, and waits longer between attempts, for ever."
    )
    _until_it_has_failed(program)
    page.say("`/readyz` answers 503, so that no traffic comes and a rollout stops:")
    assert program.get("/readyz")[0] == 503
    page.type(f"curl --silent {EXPORTER}/readyz")
    page.say("`/livez` answers 200: a restart would mend nothing.")
    assert program.get("/livez")[0] == 200
    page.say("On the page, and in a terminal:")
    page.show(_headline(program))
    page.type("moorings status", until="  failed  ")  # and not in the middle of an attempt
    page.say("In the metrics:")
    page.type(
        f"curl --silent {EXPORTER}/metrics | "
        "grep -e '^moorings_connection_ready' -e 'from=\"ready\",.*to=\"connecting\"'"
    )


def _be_woken(page: Transcript, prometheus: Prometheus) -> None:
    page.say(
        "Prometheus has scraped the worker all the while, and knows the rules of `grafana/`.\n"
        f"`{ALERT}` waits for two minutes before it fires (here everything of Prometheus's ran\n"
        f"{FASTER} times as fast); [the runbook](runbook.md#{ALERT.lower()}) says what to do then."
    )
    prometheus.becomes(FIRING, 1)
    page.type(QUERY)


def _sleep_again(page: Transcript, prometheus: Prometheus) -> None:
    prometheus.becomes(FIRING, None)
    page.say("The alert is resolved:")
    assert not page.type(QUERY).strip()


def _bring_it_back(page: Transcript, program: Program, server: Mongod) -> None:
    page.say("## It comes back")
    server.start()
    program.becomes_ready()
    page.say("The server is started. Within a second:")
    page.show(program.said('"connection ready again"'))
    assert '"healthy"' in page.type(f"curl --silent {EXPORTER}/readyz")
    page.type("moorings status")
    page.say(
        "`generation` is still 1: the client is the same, and so is every handle that the program\n"
        "holds. The worker went on by itself."
    )
    with server.client() as driver:
        before = driver.jobs.done.count_documents({})
        deadline = time.monotonic() + SOON
        while driver.jobs.done.count_documents({}) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _end(page: Transcript, program: Program) -> None:
    page.say("## The end")
    program.signal(signal.SIGTERM)
    page.show(program.said("SIGTERM"))
    assert program.ended() == 0
    page.say("The exit status is 0.")


def _headline(program: Program) -> str:
    """What stands at the top of the status page."""
    shown = program.get("/")[1]
    found = re.search(r'<strong id="verdict">(.*?)</strong> <span id="why">(.*?)</span>', shown)
    assert found is not None, shown
    return html.unescape(f"{found[1]}: {found[2]}")


def _until_it_has_failed(program: Program) -> None:
    """Until the first episode is over. The cause is known from then on, whatever is tried."""
    deadline = time.monotonic() + SOON
    while True:
        (found,) = json.loads(program.get("/connections")[1])
        if found["state"] == "failed":
            assert found["reason"] == "refused"
            return
        assert time.monotonic() < deadline, program.stderr
        time.sleep(0.05)
