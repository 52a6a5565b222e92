"""Shell completion: commands, options and the names of connections, soon enough to be typed at."""

from __future__ import annotations

import math
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processes import clean_environ

if TYPE_CHECKING:
    from collections.abc import Callable

    from processes import Call

BIN = Path(sys.executable).parent
"""Where the program `moorings` is, which shells look for on PATH."""

SETTINGS = """
[default.database.documents.orders]
backend = "local"
[default.database.documents.off]
backend = "local"
enabled = false
[production.database.documents.billing]
backend = "local"
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a command in a directory that has settings; what it says."""
    (tmp_path / "settings.toml").write_text(SETTINGS)

    def begin(*command: str, **variables: str) -> str:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        environ = clean_environ(PATH=path, HOME=str(tmp_path), **variables)
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return begin


@pytest.fixture
def complete(call: Call, tmp_path: Path) -> Callable[..., list[str]]:
    """What is offered after these words, the last of which is the beginning of one."""
    (tmp_path / "settings.toml").write_text(SETTINGS)

    def ask(*words: str, **variables: str) -> list[str]:
        return call(**asked(*words), **variables).stdout.split()

    return ask


def asked(*words: str) -> dict[str, str]:
    """The variables by which bash asks."""
    return {
        "COMP_WORDS": " ".join(("moorings", *words)),
        "COMP_CWORD": str(len(words)),
        "_MOORINGS_COMPLETE": "complete_bash",
    }


def test_commands_and_options_are_completed(complete: Any) -> None:
    assert complete("sta") == ["status", "states"]
    assert "--watch" in complete("status", "--")


def test_check_completes_the_names_that_the_settings_have(complete: Any, tmp_path: Path) -> None:
    """Those that are enabled, of every layer, and each once."""
    assert complete("check", "") == ["orders", "billing"]
    assert complete("check", "or") == ["orders"]
    assert complete("check", "orders", "") == ["billing"]
    (tmp_path / "staging.toml").write_text('[default.database.documents.beside]\nbackend="x"')
    assert "beside" in complete("check", "", MOORINGS_ENV="staging")
    assert "beside" in complete("check", "--env", "staging", "")


def test_it_reads_the_settings_that_the_command_would(complete: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[default.database.documents.elsewhere]\nbackend = "local"')
    assert complete("check", "--settings", "other.toml", "") == ["elsewhere"]
    both = os.pathsep.join([str(other), "settings.toml"])
    assert complete("check", "", MOORINGS_SETTINGS=both) == ["elsewhere", "orders", "billing"]


@pytest.mark.parametrize("toml", ["[default", "database = 7", "[default]\ndatabase = 7", ""])
def test_settings_that_cannot_be_used_offer_nothing(
    complete: Any, tmp_path: Path, toml: str
) -> None:
    """Nor do they say anything: a press of a key is no place for a traceback."""
    (tmp_path / "settings.toml").write_text(toml)
    assert complete("check", "") == []
    (tmp_path / "settings.toml").unlink()
    assert complete("check", "") == []


def test_names_that_are_no_files_and_depths_beyond_reason_offer_nothing(
    complete: Any, tmp_path: Path
) -> None:
    assert complete("check", "", MOORINGS_ENV="a/b") == ["orders", "billing"]
    assert complete("check", "--env", "prod", "--settings", "/", "") == []
    (tmp_path / "settings.toml").write_text("a = " + "[" * 5000)
    assert complete("check", "") == []


def test_it_imports_neither_models_nor_drivers(run: Any) -> None:
    """Half a second of imports would be felt."""
    code = (
        "import sys, moorings.runtime.cli, moorings.runtime.completion;"
        "print(*{'pydantic', 'rich.console', 'trio', 'pymongo', 'hypercorn'} & sys.modules.keys())"
    )
    assert run(sys.executable, "-c", code).split() == []


def test_a_press_of_a_key_costs_little_more_than_its_library(run: Any) -> None:
    """Beside the import of typer, in the processor's time, and the best of several."""

    def spent(*command: str, **environ: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(*command, **environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours = library = math.inf
    for _ in range(3):  # in turns: a machine that is busy is so for both
        ours = min(ours, spent(str(BIN / "moorings"), **asked("check", "o")))
        library = min(library, spent(sys.executable, "-c", "import typer"))
    assert ours < 5 * library


# -- in the shells themselves

BASH = """
source <(moorings --show-completion)
COMP_WORDS=(moorings check o) COMP_CWORD=2
_moorings_completion moorings
echo "${COMPREPLY[@]}"
"""
# Its completion runs on a terminal alone: what it would be told is printed.
ZSH = """
compdef() { : }
_arguments() { print -r -- "$@" }
eval "$(moorings --show-completion)"
words=(moorings check o) CURRENT=3
_moorings_completion
"""
FISH = """
moorings --show-completion | source
complete -C "moorings check o"
"""


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("bash", BASH),
        pytest.param("zsh", ZSH, marks=pytest.mark.operators),
        pytest.param("fish", FISH, marks=pytest.mark.operators),
    ],
)
def test_it_works_in_the_shell_that_it_is_asked_in(run: Any, shell: str, script: str) -> None:
    if shutil.which(shell) is None:
        pytest.fail(f"{shell} is missing: .ci/debian installs it", pytrace=False)
    assert "orders" in run(shell, "-c", script)


def test_it_installs_itself_into_the_shell_that_it_is_asked_in(run: Any, tmp_path: Path) -> None:
    run("bash", "-c", "moorings --install-completion; true")
    assert "moorings" in (tmp_path / ".bashrc").read_text()
    words = "COMP_WORDS=(moorings check o) COMP_CWORD=2; _moorings_completion moorings"
    assert "orders" in run("bash", "-c", f"source ~/.bashrc; {words}; echo ${{COMPREPLY[@]}}")
