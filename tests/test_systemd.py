"""What systemd is told, on a real notification socket, by real programs on both hosts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from settings_files import settings, write

from moorings.errors import FailureReason
from moorings.runtime.secrets_local import FileSecrets
from moorings.runtime.state import Event, State
from moorings.runtime.status import ConnectionStatus, Transition
from moorings.runtime.systemd import Notifier, ServiceManager, describe, watchdog_seconds
from moorings.runtime.testing import local_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import Program, Start

UNIT = Path(__file__).parents[1] / "deploy" / "systemd" / "moorings.service"
LOCAL: dict[str, Any] = {"backend": "local"}
SOON = 30.0

STUCK = """
import time

async def main(connections):
    await connections.wait_ready()
    print("stuck", flush=True)
    while True:
        time.sleep(60)
"""

REFUSED = """
import {host}

async def main(connections):
    await connections.wait_ready()
    connections["orders"].provider.faults.refuse()
    await {forever}
"""


class NotifySocket:
    """What systemd binds: a datagram socket, here with a reader that knows the protocol."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(SOON)

    def receive(self, seconds: float = SOON) -> dict[str, str]:
        """The next message."""
        self._socket.settimeout(seconds)
        message = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in message.splitlines())

    def until(self, key: str, value: str | None = None) -> list[dict[str, str]]:
        """Every message up to the first that has `key`, and `value` in it."""
        seen: list[dict[str, str]] = []
        deadline = time.monotonic() + SOON
        while not seen or key not in seen[-1] or (value or "") not in seen[-1][key]:
            assert time.monotonic() < deadline, seen
            seen.append(self.receive())
        return seen

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest) -> Iterator[NotifySocket]:
    with tempfile.TemporaryDirectory(prefix="notify") as folder:  # tmp_path may be too long
        found = NotifySocket(f"{folder}/s" if request.param == "path" else f"@{folder}")
        yield found
        found.close()


on_a_path = pytest.mark.parametrize("systemd", ["path"], indirect=True)
on_each_host = pytest.mark.parametrize(
    "host", ["trio", pytest.param("asyncio", marks=pytest.mark.slow)]
)


def run(start: Start, systemd: NotifySocket, *arguments: str, **variables: str) -> Program:
    return start("run", *arguments, NOTIFY_SOCKET=systemd.address, **variables)


# -- the conversation


@on_a_path
@pytest.mark.parametrize("host", ["trio", "asyncio"])
def test_ready_comes_when_the_exporter_serves_and_stopping_when_the_end_begins(
    start: Start, tmp_path: Path, systemd: NotifySocket, host: str
) -> None:
    write(tmp_path, settings({"orders": LOCAL}, runtime={"startup": "wait"}))
    program = run(start, systemd, "--host", host, WATCHDOG_USEC="1000000")
    told = systemd.until("READY")
    assert told[-1] == {"READY": "1", "STATUS": "1 of 1 connections ready"}
    assert all(set(message) <= {"STATUS", "WATCHDOG"} for message in told[:-1])
    assert program.get("/readyz")[0] == 200
    systemd.until("WATCHDOG")
    program.signal(signal.SIGTERM)
    assert systemd.until("STOPPING")[-1] == {"STOPPING": "1", "STATUS": "shutting down"}
    assert program.ended() == 0
    assert "Traceback" not in program.stderr


@on_a_path
def test_stopping_comes_when_the_drain_begins(
    start: Start, tmp_path: Path, systemd: NotifySocket
) -> None:
    """And not when it is over: systemd would take the program for one that works."""
    write(tmp_path, settings({"orders": LOCAL}, runtime={"drain_delay": 60.0}))
    program = run(start, systemd)
    systemd.until("READY")
    program.signal(signal.SIGTERM)
    systemd.until("STOPPING")
    assert program.process.poll() is None
    assert program.get("/readyz")[0] == 503


@on_a_path
@on_each_host
def test_a_hangup_is_answered_once_the_settings_are_read(
    start: Start, tmp_path: Path, systemd: NotifySocket, host: str
) -> None:
    """As Type=notify-reload wants it, stamped after the signal; also where they are bad."""
    write(tmp_path, settings({"orders": LOCAL}))
    program = run(start, systemd, "--host", host)
    systemd.until("READY")
    for then in ({"orders": LOCAL, "more": LOCAL}, {"orders": {"backend": "unknown"}}):
        write(tmp_path, settings(then))
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        program.signal(signal.SIGHUP)
        reloading = systemd.until("RELOADING")[-1]
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) >= before
        systemd.until("READY")
    program.said("settings reloaded")
    program.said("not reloaded, nothing has changed")


@on_a_path
@on_each_host
def test_the_status_follows_the_connections(
    start: Start, tmp_path: Path, systemd: NotifySocket, host: str
) -> None:
    forever = "trio.sleep_forever()" if host == "trio" else "asyncio.Event().wait()"
    (tmp_path / "program.py").write_text(REFUSED.format(host=host, forever=forever))
    brisk = {"interval": 0.1, "timeout": 0.5, "failures": 1}
    write(tmp_path, settings({"orders": LOCAL | {"health": brisk}, "audit": LOCAL}))
    run(start, systemd, "program:main", "--host", host)
    systemd.until("STATUS", "1 of 2 connections ready; orders connecting (")
    systemd.until("STATUS", "1 of 2 connections ready; orders failed (")


@on_a_path
async def test_a_heartbeat_tells_only_what_is_new(
    systemd: NotifySocket, autojump_clock: object
) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "60000000"})
    async with local_connections("orders", "audit") as manager:
        service.attach(manager)
        await trio.sleep(1)
        assert systemd.receive() == {"STATUS": "starting; 2 of 2 connections ready"}
        assert systemd.receive() == {"WATCHDOG": "1"}  # and no second one for half a minute
        service.observe(transition("orders"))
        service.observe(transition("audit"))
        await trio.sleep(1)
        assert systemd.receive() == {"STATUS": "starting; 2 of 2 connections ready"}
        service.ready()
        assert systemd.receive()["READY"] == "1"
        await trio.sleep(1)
        with pytest.raises(TimeoutError):
            systemd.receive(0.01)


# -- the watchdog


@on_a_path
@on_each_host
def test_a_stuck_loop_falls_silent(
    start: Start, tmp_path: Path, systemd: NotifySocket, host: str
) -> None:
    """As systemd would see it: no message for the whole of WatchdogSec."""
    (tmp_path / "program.py").write_text(STUCK)
    write(tmp_path, settings({"orders": LOCAL}))
    program = run(start, systemd, "program:main", "--host", host, WATCHDOG_USEC="1000000")
    program.said("stuck")
    with pytest.raises(TimeoutError):
        while True:
            systemd.receive(1.0)


@on_a_path
def test_another_processs_watchdog_is_not_answered(
    start: Start, tmp_path: Path, systemd: NotifySocket
) -> None:
    write(tmp_path, settings({"orders": LOCAL}))
    program = run(start, systemd, WATCHDOG_USEC="200000", WATCHDOG_PID=str(os.getpid()))
    told = systemd.until("READY")
    program.signal(signal.SIGTERM)
    told += systemd.until("STOPPING")
    assert not any("WATCHDOG" in message for message in told)


def test_the_watchdog_is_ours_where_its_process_is_or_nobodys() -> None:
    assert watchdog_seconds({}) is None
    assert watchdog_seconds({"WATCHDOG_USEC": "3000000"}) == 3.0
    ours = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    assert watchdog_seconds(ours) == 3.0
    assert watchdog_seconds(ours | {"WATCHDOG_PID": "1"}) is None


@pytest.mark.parametrize("text", ["soon", "0", "-1", "²"])
def test_a_watchdog_that_is_no_number_is_left_alone(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog_seconds({"WATCHDOG_USEC": text})
    assert "WATCHDOG_USEC" in caplog.text or "WatchdogSec" in caplog.text


def test_a_watchdog_faster_than_the_heartbeat_is_said_to_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "100000"}) == 0.1
    assert "WatchdogSec is 0.1 s; give it 1 at least" in caplog.text


# -- nothing of this fails a program


async def test_without_a_socket_nobody_is_told() -> None:
    notifier = Notifier(None)
    assert not notifier.listening
    notifier.send("READY=1")
    service = ServiceManager({})
    async with local_connections("orders") as manager:
        service.attach(manager)
        assert manager.kernel.on_beat is None
    service.ready()
    with service.reloading():
        pass
    service.stopping()


def test_a_socket_that_is_gone_is_a_line_of_the_log(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
    assert len(caplog.records) == 1
    write(tmp_path, settings({"orders": LOCAL}))
    program = start("run", NOTIFY_SOCKET=str(tmp_path / "gone"))
    program.becomes_ready()
    program.said("the service manager cannot be told")
    program.signal(signal.SIGTERM)
    assert program.ended() == 0


def test_an_address_of_another_kind_is_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not Notifier("vsock:2:1234").listening
    assert "NOTIFY_SOCKET" in caplog.text


def ready_behind_a_full_queue(systemd: NotifySocket) -> tuple[Notifier, int]:
    """A notifier whose READY=1 waits, and how many messages of its the queue holds."""
    notifier = Notifier(systemd.address)
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 1
    for number in range(queue):
        notifier.send(f"STATUS={number}")
    notifier.send("READY=1")
    return notifier, queue


def test_what_a_full_queue_does_not_take_is_sent_later(systemd: NotifySocket) -> None:
    """systemd may be busy for a moment: READY must not be lost for it."""
    notifier, queue = ready_behind_a_full_queue(systemd)
    assert [systemd.receive()["STATUS"] for _ in range(queue)] == [str(n) for n in range(queue)]
    with pytest.raises(TimeoutError):
        systemd.receive(0.01)
    notifier.flush()
    assert systemd.receive() == {"READY": "1"}


def test_news_that_pass_never_push_out_what_counts(systemd: NotifySocket) -> None:
    """A manager that is busy while connections come and go learns of READY all the same."""
    notifier, queue = ready_behind_a_full_queue(systemd)
    for number in range(100):
        notifier.send(f"STATUS={number}")
    for _ in range(queue):
        systemd.receive()
    notifier.flush()
    assert systemd.receive() == {"READY": "1"}


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000])
def test_a_watchdog_beyond_all_numbers_is_left_alone(text: str) -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": text}) is None


# -- in between


def transition(name: str) -> Transition:
    return Transition(
        name, State.READY, Event.LOST, State.CONNECTING, status(name, State.CONNECTING)
    )


def status(name: str, state: State, reason: FailureReason | None = None) -> ConnectionStatus:
    return ConnectionStatus(name, "local", required=True, state=state, since=0.0, reason=reason)


def test_the_status_names_a_few_and_counts_the_rest() -> None:
    failed = [status(f"c{n}", State.FAILED, FailureReason.DNS) for n in range(5)]
    assert describe([]) == "0 of 0 connections ready"
    assert describe([status("a", State.READY), *failed]) == (
        "1 of 6 connections ready; c0 failed (dns); c1 failed (dns); c2 failed (dns); and 2 more"
    )


@on_a_path
def test_ready_waits_for_the_last_of_several_reloads(systemd: NotifySocket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.address})
    with manager.reloading(), manager.reloading():
        pass
    told = [systemd.receive() for _ in range(3)]
    assert [sorted(message) for message in told] == [
        ["MONOTONIC_USEC", "RELOADING"],
        ["MONOTONIC_USEC", "RELOADING"],
        ["READY"],
    ]


@on_a_path
def test_what_stops_is_not_ready_again(systemd: NotifySocket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.address})
    with manager.reloading():
        systemd.until("RELOADING")
        manager.stopping()
        manager.stopping()
        systemd.until("STOPPING")
    manager.ready()
    with manager.reloading(), pytest.raises(TimeoutError):
        systemd.receive(0.01)


# -- the unit


def test_the_units_bounds_leave_room_for_the_programs_own() -> None:
    """systemd must not kill what is still stopping or starting in order."""
    from moorings.runtime.kernel import STALLED_AFTER
    from moorings.runtime.settings import RuntimeSettings

    unit = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line)
    runtime = RuntimeSettings()
    assert unit["Type"] == "notify"
    assert float(unit["TimeoutStopSec"]) > runtime.drain_delay + runtime.shutdown_timeout
    assert float(unit["TimeoutStartSec"]) > runtime.startup_timeout
    assert float(unit["WatchdogSec"]) >= STALLED_AFTER
    assert "--log-level" not in unit["ExecStart"]


def with_credentials() -> str:
    """The unit with what it offers as comments."""
    return re.sub(r"^#(?=\w+=)", "", UNIT.read_text(), flags=re.MULTILINE)


def test_the_unit_hides_nothing_that_a_metric_is_read_from() -> None:
    """/proc/stat: without it prometheus_client takes the machine's start for 1970."""
    assert "\nProcSubset=" not in UNIT.read_text()


async def test_a_credential_is_where_the_unit_says(tmp_path: Path) -> None:
    """systemd lays them out flat."""
    assert "\nLoadCredential=password:" in with_credentials()
    (tmp_path / "password").write_text("s3cret")
    found = await FileSecrets(tmp_path).resolve(".", "password")
    assert found.get_secret_value() == "s3cret"


@pytest.mark.operators
@pytest.mark.parametrize("text", [UNIT.read_text(), with_credentials()], ids=["plain", "secrets"])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, text: str) -> None:
    unit = tmp_path / UNIT.name
    (line,) = [x for x in text.splitlines() if x.startswith("ExecStart=")]
    program = line.removeprefix("ExecStart=").split()[0]
    here = str(Path(sys.executable).parent / "moorings")
    unit.write_text(text.replace(program, here))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.operators
def test_the_unit_is_as_confined_as_systemd_can_tell() -> None:
    """Exposure at most 1.5 of 10, which is "OK" at 4.9."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert done.returncode == 0, done.stdout
