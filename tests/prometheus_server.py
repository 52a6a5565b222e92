"""A real Prometheus as a process of ours, never the packaged service; and what it answers.

It comes with Debian's package `prometheus`, which `.ci/debian` installs.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from mongod import DIE_WITH_PARENT, HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SECONDS = 30.0

CONFIG = """
global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
  evaluation_interval: {interval}
rule_files: {rules}
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: {targets}}}]
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        # A failure and not a skip: without it nobody knows whether Prometheus understands us.
        pytest.fail(f"{name} is missing: .ci/debian installs it", pytrace=False)
    return found


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return what it says; it must find nothing wrong."""
    command = [tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fetch(url: str, accept: str = "*/*") -> tuple[str, str]:
    """The content type and the body of a page."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


_AWAY = object()


@dataclass
class Prometheus:
    """A running server's API."""

    url: str
    process: subprocess.Popen[bytes]

    def api(self, path: str, **query: str) -> Any:
        found = fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}")[1]
        return json.loads(found)["data"]

    def value(self, query: str) -> float | None:
        """The one sample that `query` has now; None: there is none."""
        result = self.api("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None

    def becomes(self, query: str, wanted: float | None) -> None:
        """Wait until it has this value now; None: until it has none."""
        deadline = time.monotonic() + SECONDS
        while (found := self._value_if_up(query)) is _AWAY or found != wanted:
            assert self.process.poll() is None, "prometheus has ended"
            assert time.monotonic() < deadline, f"{query} is {found}, not {wanted}"
            time.sleep(0.05)

    def _value_if_up(self, query: str) -> object:
        try:
            return self.value(query)
        except OSError:
            return _AWAY


@contextmanager
def scraping(
    target: str,
    folder: Path,
    *,
    others: Sequence[str] = (),
    job: str = "moorings",
    interval: str = "200ms",
    rules: Path | None = None,
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` (and `others`), with its data in `folder`.

    Rules that name no interval of their own are evaluated as often as it scrapes.
    """
    config, address = folder / "prometheus.yml", f"{HOST}:{free_port()}"
    files = json.dumps([str(rules)] if rules else [])
    targets = json.dumps([target, *others])
    config.write_text(CONFIG.format(targets=targets, job=job, interval=interval, rules=files))
    command = [
        tool("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(f"http://{address}", process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
