"""The fixture for users' own tests, under each plugin that runs asynchronous ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from moorings.runtime.testing import local_connections

if TYPE_CHECKING:
    from pathlib import Path

# What a user would write; only the line that makes a test asynchronous differs.
TESTS = """
import pytest
from moorings import ConnectionNotReady
from moorings.runtime.state import State

MARK

async def changes_to(connection, wanted):
    async for status in connection.watch():
        if status.state is wanted:
            return

async def test_what_is_written_is_read(connections):
    db = connections.database()
    await db.things.insert_one({"_id": 1})
    assert await db.things.find_one() == {"_id": 1}

async def test_every_test_begins_empty(connections):
    assert await connections.database().things.find_one() is None

async def test_an_outage_is_seen_and_ends(connections):
    faults = connections["db"].provider.faults
    faults.refuse()
    await changes_to(connections["db"], State.FAILED)
    with pytest.raises(ConnectionNotReady):
        connections.database()
    faults.heal()
    assert await connections.get_database() is not None

@pytest.mark.moorings("orders", "audit")
async def test_connections_have_names(connections):
    assert list(connections) == ["orders", "audit"]
    assert connections.database().name == "test"
"""

RENAMED = """
import pytest
pytest_plugins = ["moorings.runtime.testing"]

@pytest.fixture
def connections(moorings_connections):
    return moorings_connections
"""

STRICT = """
import pytest_asyncio
from moorings.runtime.testing import local_connections

@pytest_asyncio.fixture
async def connections(request):
    marker = request.node.get_closest_marker("moorings")
    async with local_connections(*(marker.args if marker else ())) as manager:
        yield manager
"""

ANYIO = """
@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param
"""

ASYNCIO = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"]
PLUGINS = {
    "pytest-trio": (["-p", "pytest_trio.plugin"], "pytestmark = pytest.mark.trio", RENAMED, 4),
    "pytest-trio, trio mode": (
        ["-p", "pytest_trio.plugin", "-o", "trio_mode=true"],
        "",
        RENAMED,
        4,
    ),
    "pytest-asyncio, auto mode": (
        [*ASYNCIO, "-o", "asyncio_mode=auto"],
        "",
        RENAMED,
        4,
    ),
    "pytest-asyncio, strict mode": (
        [*ASYNCIO, "-o", "markers=moorings"],
        "pytestmark = pytest.mark.asyncio",
        STRICT,
        4,
    ),
    "anyio": (["-p", "anyio.pytest_plugin"], "pytestmark = pytest.mark.anyio", RENAMED + ANYIO, 8),
}


OTHER_MODES = {"pytest-trio, trio mode", "pytest-asyncio, strict mode"}


@pytest.mark.parametrize(
    ("options", "mark", "conftest", "passed"),
    [
        pytest.param(*plugin, id=name, marks=pytest.mark.slow if name in OTHER_MODES else ())
        for name, plugin in PLUGINS.items()
    ],
)
def test_the_fixture_works_under(
    tmp_path: Path, options: list[str], mark: str, conftest: str, passed: int
) -> None:
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_mine.py").write_text(TESTS.replace("MARK", mark))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert f"{passed} passed" in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


async def test_several_may_be_open_at_once() -> None:
    async with local_connections() as one, local_connections("a", "b") as two:
        assert one.is_ready()
        assert two.is_ready()
        assert one.database() is not two.database()


async def test_tables_take_the_place_of_the_impatient_ones() -> None:
    async with local_connections("db", health={"interval": 7.0}) as connections:
        assert connections["db"].settings.health.interval == 7.0
        assert connections["db"].settings.retry.attempts == 3


def test_the_examples_in_its_docstring_are_python() -> None:
    import moorings.runtime.testing as module

    blocks = textwrap.dedent(module.__doc__ or "").split("\n\n")
    for block in blocks:
        if block.startswith("    "):
            compile(textwrap.dedent(block), "docstring", "exec")
