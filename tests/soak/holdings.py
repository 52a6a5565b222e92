"""What a process holds: threads, sockets, files, tasks, memory. Counted by itself."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import trio


@dataclass(frozen=True)
class Holdings:
    """One count.

    Attributes:
        threads: of any kind.
        sockets: open ones.
        files: open ones, sockets included.
        tasks: of asyncio and of trio, as far as they are not over.
        memory_kb: resident.
    """

    threads: int
    sockets: int
    files: int
    tasks: int
    memory_kb: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def larger(self, other: Holdings) -> Holdings:
        """Of each the larger number."""
        mine, others = self.as_dict(), other.as_dict()
        return Holdings(**{name: max(mine[name], others[name]) for name in mine})


def count() -> Holdings:
    """Count, after what is garbage has gone."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is nobody's memory
    names = open_files()
    return Holdings(
        threads=len(threading.enumerate()),
        sockets=sum(name.startswith("socket:") for name in names),
        files=len(names),
        tasks=sum(_is_living_task(one) for one in gc.get_objects()),
        memory_kb=_resident_kb(),
    )


def open_files() -> list[str]:
    """What this process has open: paths, and sockets by number."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:  # closed in the meantime: by a driver's thread, or by us
            continue
    return names


def _is_living_task(one: object) -> bool:
    # By type, not `isinstance`: proxies of others' may do anything when they are asked.
    if type(one) is trio.lowlevel.Task:
        return one.coro.cr_frame is not None
    return issubclass(type(one), asyncio.Task) and not one.done()  # type: ignore[attr-defined]


def _resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
