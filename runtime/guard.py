"""Who may use a manager: the thread, the process and the event loop it was opened in."""

# ruff: noqa: SLF001 - handles are withdrawn from connections that nobody may ask any more

from __future__ import annotations

import os
import weakref
from threading import get_ident
from typing import TYPE_CHECKING

from ..errors import HostMismatch

if TYPE_CHECKING:
    from .kernel import Kernel

_kernels: weakref.WeakSet[Kernel] = weakref.WeakSet()


def check_host(kernel: Kernel, what: str) -> None:
    """Refuse a call to `what` from another thread, process or event loop than `kernel`'s.

    Raises:
        HostMismatch: names both sides.
    """
    if os.getpid() != kernel.process:
        raise HostMismatch(
            f"{what} was opened in process {kernel.process} and is used in process "
            f"{os.getpid()}: a fork cannot share it. Open the connections after the fork"
        )
    if get_ident() != kernel.thread:
        raise HostMismatch(
            f"{what} was opened in thread {kernel.thread} and is used in thread "
            f"{get_ident()}: call through the loop it was opened in (trio.from_thread.run, "
            "asyncio.run_coroutine_threadsafe), or open connections in this thread, too"
        )
    kernel.host.check(what)


def forget_after_fork(kernel: Kernel) -> None:
    """Have the handles of `kernel` withdrawn in every process that is forked from now on."""
    _kernels.add(kernel)


def _withdraw_handles() -> None:
    # The hot path compares threads only, and a fork keeps the thread's identity.
    for kernel in _kernels:
        kernel.serving.clear()
        for connection in kernel.connections.values():
            connection._database = None


os.register_at_fork(after_in_child=_withdraw_handles)
