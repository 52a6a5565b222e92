"""Fixtures for tests of what runs in an asyncio program: in plain asyncio, and in uvloop.

`on_asyncio` and `on_plain_asyncio` run a coroutine. Tests of the backend `pymongo` are marked with
`filterwarnings(UNCLOSED_BY_PYMONGO)` and ask for `pymongo_sockets_collected`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

T = TypeVar("T")

OnAsyncio = Callable[[Coroutine[Any, Any, T]], T]

UNCLOSED_BY_PYMONGO = "ignore:unclosed <?(socket|transport):ResourceWarning"
"""PyMongo's asynchronous client closes a socket whose connecting fails, but not one whose
connecting is cancelled, as its monitors are when it is closed (PYTHON-5867): that is left to its
collection. No descriptor is lost (tests count them); only Python's warning about it must not end
another test."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def run_on(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on the loop of that name."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main)


@pytest.fixture(params=LOOPS)
def on_asyncio(request: pytest.FixtureRequest) -> OnAsyncio[Any]:
    """Runs a coroutine to its end, as `asyncio.run` does; the test runs once a loop."""
    name: str = request.param
    return lambda main: run_on(name, main)


@pytest.fixture
def on_plain_asyncio() -> OnAsyncio[Any]:
    """The same, for what has nothing to do with the loop and takes long."""
    return lambda main: run_on("asyncio", main)


@pytest.fixture
def pymongo_sockets_collected() -> Iterator[None]:
    """No later test meets a socket that PyMongo left to collection."""
    yield
    gc.collect()
