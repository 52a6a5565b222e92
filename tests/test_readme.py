"""Every snippet of the README is run, or validated, as it stands."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moorings.runtime.loading import load_settings

if TYPE_CHECKING:
    from processes import Call, Start

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def execute(directory: Path, *command: str) -> str:
    (directory / "settings.toml").write_text(blocks("toml")[0])
    found = subprocess.run(
        [sys.executable, *command],
        check=False,
        cwd=directory,
        env={"MOORINGS_RUNTIME__EXPORTER__PORT": "0", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_every_settings_file_is_valid(number: int) -> None:
    settings = blocks("toml")[number]
    for env in {"default", *re.findall(r"^\[(\w+)\.", settings, re.MULTILINE)}:
        document = tomllib.loads(settings)
        loaded = load_settings(document, env=env, environ={})
        assert "jobs" in loaded.settings.database.documents


def command(part: str) -> list[str]:
    """The command that is shown with `part` in it."""
    return next(line.split() for line in "".join(blocks("sh")).splitlines() if part in line)


@pytest.mark.parametrize(("number", "module"), [(0, "worker"), (2, "asyncio_worker")])
def test_the_workers_run_under_moorings_run(tmp_path: Path, number: int, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(blocks("python")[number])
    assert execute(tmp_path, "-m", *command(f" {module}:main")) == "done: 3\n"


def test_the_application_serves_under_uvicorn(tmp_path: Path, start_python: Start) -> None:
    (tmp_path / "settings.toml").write_text(blocks("toml")[0])
    (tmp_path / "app.py").write_text(blocks("python")[3])
    program = start_python("-m", *command("uvicorn "), "--port", "0")
    program.becomes_ready("/moorings/readyz")
    assert program.get("/done") == (200, "0")
    program.signal(signal.SIGTERM)
    assert program.ended() == -signal.SIGTERM  # as uvicorn ends, which raises the signal again
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize(
    ("number", "says"), [(1, ["{'page': '/'}"]), (4, ["lost: network", "back, generation 1"])]
)
def test_every_program_runs_as_it_stands(tmp_path: Path, number: int, says: list[str]) -> None:
    (tmp_path / "program.py").write_text(blocks("python")[number])
    shown = execute(tmp_path, "program.py")
    for line in says:
        assert line in shown


def test_every_program_is_run_above() -> None:
    assert len(blocks("python")) == 6


def test_every_command_shown_exists(call: Call) -> None:
    shown = re.findall(r"^(?:\$ )?moorings (\w+)", "".join(blocks("sh")), re.MULTILINE)
    mentioned = re.findall(r"`moorings (\w+)", README.read_text())
    for command in {*shown, *mentioned}:
        assert call(command, "--help").status == 0


def test_the_supervised_child_is_restarted_until_its_budget_is_spent(tmp_path: Path) -> None:
    example = blocks("python")[5]
    assert sum(bool(line) for line in example.splitlines()) == 10
    (tmp_path / "alone.py").write_text(example)
    command = [sys.executable, "alone.py"]
    found = subprocess.run(
        command, check=False, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60
    )
    kinds = [line.partition("(")[0] for line in found.stdout.splitlines()]
    assert kinds[-3:] == ["ChildStarted", "ChildEnded", "Escalated"]
    assert kinds.count("ChildRestarting") == 3
    assert found.stderr.splitlines()[-1].startswith("moorings.errors.RestartIntensityExceeded")
    assert "RuntimeError: a bug" in found.stderr
