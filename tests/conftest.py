"""Fixtures that every test may use.

Those for real servers are in `mongod_fixtures.py`, the scripted provider in `scripted.py`.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests are imported by path (import-mode=importlib), so nothing here is importable by name until
# its folder is. Only plugins are imported that way; test modules import fixtures, never each other.
sys.path.insert(0, str(Path(__file__).parent))

# Who is started in the background of a script ignores Ctrl-C, and so would every test of it, and
# every process of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "asyncio_fixtures",
    "browser",
    "cutting",
    "family",
    "fault_fixtures",
    "mongod_fixtures",
    "processes",
    "pymongo_sockets",
    "safe",
    "scripted",
    "terminals",
    "vault_standin",
]


@pytest.fixture(autouse=True)
def logging_untouched() -> Iterator[None]:
    """No test may leave logging configured: others, in any order, look at what is logged."""
    before = _logging_state()
    yield
    after = _logging_state()
    if after != before:
        _restore_logging(before)
        pytest.fail(f"this test left logging changed: {set(after.items()) ^ set(before.items())}")


def _logging_state() -> dict[str, tuple[int, bool, bool]]:
    loggers = {"": logging.getLogger()} | {
        name: logger
        for name, logger in logging.Logger.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in _WATCHED
    }
    state = {
        name: (logger.level, logger.propagate, logger.disabled) for name, logger in loggers.items()
    }
    return {
        name: found for name, found in state.items() if not name or found != (0, True, False)
    } | {"disable": (logging.Logger.manager.disable, True, False)}


_WATCHED = {"moorings", "pymongo"}


def _restore_logging(state: dict[str, tuple[int, bool, bool]]) -> None:
    for name in ("", *logging.Logger.manager.loggerDict):
        if not name or name.partition(".")[0] in _WATCHED:
            logger = logging.getLogger(name)
            logger.level, logger.propagate, logger.disabled = state.get(name, (0, True, False))
    logging.disable(state["disable"][0])


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """For tests of what configures the process's logging: everything back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture(autouse=True, scope="module")
def past_frozen() -> None:
    """What is there by now stays: tests that look for garbage pass over it.

    Hundreds of them collect, and the later they run, the more there would be to look through.
    """
    gc.collect()
    gc.freeze()
