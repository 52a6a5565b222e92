"""The few things that a provider for both hosts needs from whichever it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from typing import Protocol

import sniffio
import trio


class Event(Protocol):
    """What `trio.Event` and `asyncio.Event` have in common."""

    def set(self) -> object:
        """Wake all who wait."""

    async def wait(self) -> object:
        """Return once it is set. A checkpoint."""


def _on_trio() -> bool:
    return sniffio.current_async_library() == "trio"


async def checkpoint() -> None:
    """Let others run, and be cancelled, once."""
    if _on_trio():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


async def imported(module: str) -> None:
    """Import `module`, if it can be, without holding up an asyncio loop.

    On trio it is imported on the spot: threads know nothing of the virtual time in which an
    application's tests may run.
    """
    if module not in sys.modules and not _on_trio():
        with contextlib.suppress(Exception):  # whoever needs it will meet the same error
            await asyncio.to_thread(importlib.import_module, module)


async def sleep(seconds: float) -> None:
    """Sleep in the host's own time."""
    if _on_trio():
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def event() -> Event:
    """An event that may be waited for in the running host."""
    return trio.Event() if _on_trio() else asyncio.Event()
