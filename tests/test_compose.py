"""deploy/compose: what it mounts is there, what it publishes is on loopback, its worker works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from moorings.runtime.loading import load_settings

if TYPE_CHECKING:
    from mongod import MongodFactory
    from processes import Call, Program, Start

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS = (FOLDER / "settings.toml").read_text()
SOON = 30.0


def mounts() -> list[tuple[str, str, str]]:
    return [
        (name, *volume.split(":")[:2])
        for name, service in SERVICES.items()
        for volume in service.get("volumes", ())
    ]


@pytest.mark.parametrize(("service", "source", "target"), mounts())
def test_what_is_mounted_is_there(service: str, source: str, target: str) -> None:
    assert target.startswith("/")
    if source.startswith("."):
        assert (FOLDER / source).resolve().exists()
    else:
        assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_is_published_stays_on_loopback(service: str) -> None:
    for port in SERVICES[service]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("service", sorted(SERVICES.keys() - {"worker"}))
def test_each_image_has_a_version(service: str) -> None:
    assert re.fullmatch(r"[\w/]+:v?\d+(\.\d+)+", SERVICES[service]["image"])


def test_the_numbers_agree() -> None:
    runtime = load_settings(tomllib.loads(SETTINGS), environ={}).settings.runtime
    worker = SERVICES["worker"]
    port = runtime.exporter.port
    assert worker["ports"] == [f"127.0.0.1:{port}:{port}"]
    (config,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert [found["port"] for found in config["dns_sd_configs"]] == [port]
    assert [found["names"] for found in config["dns_sd_configs"]] == [["worker"]]
    assert f"127.0.0.1:{port}/livez" in " ".join(worker["healthcheck"]["test"])
    grace = float(worker["stop_grace_period"].removesuffix("s"))
    assert grace > runtime.drain_delay + runtime.shutdown_timeout
    assert f"EXPOSE {port}\n" in (FOLDER / "Dockerfile").read_text()


def test_the_settings_are_valid(call: Call) -> None:
    done = call("check", "--config-only", "--settings", str(FOLDER / "settings.toml"))
    assert (done.status, done.stderr) == (0, "")
    assert "mongodb:27017" in SETTINGS
    assert "mongodb" in SERVICES


def test_the_image_runs_what_the_test_below_runs() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert lines[-1] == 'CMD ["moorings", "run", "worker:main"]'
    assert any(line.startswith("USER ") and not line.startswith("USER 0") for line in lines)
    for line in lines:
        if line.startswith("COPY deploy/"):
            assert (ROOT / line.split()[1]).exists()


@pytest.mark.operators
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """With the rules where they are in the checkout."""
    config = tmp_path / "prometheus.yml"
    text = (FOLDER / "prometheus.yml").read_text()
    mounted = "/etc/prometheus/rules"
    assert mounted in text
    config.write_text(text.replace(mounted, str(ROOT / "grafana" / "rules")))
    done = subprocess.run(
        ["promtool", "check", "config", str(config)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.mongod
def test_the_worker_works_on_when_its_database_was_away(
    start: Start, tmp_path: Path, mongod_factory: MongodFactory
) -> None:
    """No job is lost or done twice."""
    server = mongod_factory()
    server.kill()
    # A replica set's default: a lone server acknowledges what a crash may still take back.
    url = f"{server.url}?w=majority&journal=true"
    (tmp_path / "settings.toml").write_text(SETTINGS)
    shutil.copy(FOLDER / "worker.py", tmp_path)
    program = start(
        "run",
        "worker:main",
        MOORINGS_RUNTIME__EXPORTER__HOST="127.0.0.1",
        MOORINGS_DATABASE__DOCUMENTS__JOBS__PROVIDER__URL=url,
    )
    program.said("serving")
    server.start()
    program.becomes_ready()
    _reaches(program, server, 2)
    server.kill()
    program.said("job")
    server.start()
    _reaches(program, server, 4)
    with server.client() as driver:
        done = [found["_id"] for found in driver.jobs.done.find({}, sort=[("_id", 1)])]
    assert done == list(range(len(done)))


def _reaches(program: Program, server: Any, count: int) -> None:
    deadline = time.monotonic() + SOON
    with server.client() as driver:
        while driver.jobs.done.count_documents({}) < count:
            assert time.monotonic() < deadline, program.stderr
            time.sleep(0.05)


@pytest.mark.slow
def test_what_the_image_is_built_of_is_a_whole_package(tmp_path: Path) -> None:
    """The build sees nothing but what Dockerfile.dockerignore lets through."""
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    context, built = tmp_path / "context", tmp_path / "built"
    for pattern in (line[1:] for line in lines if line.startswith("!")):
        for item in ROOT.glob(pattern):
            target = context / item.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__")
            if item.is_dir():
                shutil.copytree(item, target, ignore=ignored)
            else:
                shutil.copy(item, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "-w", str(built), str(context)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(built.glob("moorings-*.whl"))) == 1
