"""A dead database slows no healthy one, nor the program's end: every backend in every host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bench import isolation

if TYPE_CHECKING:
    from mongod import Mongod, MongodFactory

pytestmark = pytest.mark.slow  # servers that are frozen, and waited for


@pytest.mark.mongod
@pytest.mark.parametrize("world", isolation.WORLDS)
def test_fifty_calls_stuck_on_a_frozen_server_slow_nobody_else(
    world: str, mongod: Mongod, mongod_factory: MongodFactory
) -> None:
    """Nor does the program wait for them to end: closing both clients takes what it may."""
    frozen = mongod_factory()
    found = isolation.measure(world, mongod.url, frozen.url, frozen.pid)
    assert found.beside_ms < 5 * found.alone_ms + 5
    assert found.exit_seconds < isolation.CLOSE_SECONDS + 5
