"""Threads for blocking drivers: one executor per client, so that no client waits behind another.

Why not `trio.to_thread` and its limiter: drivers start work eagerly, from plain functions, and
chain callbacks to it; and why not `concurrent.futures`: its threads are joined when the
interpreter ends, so one that is stuck on a frozen server would hold the process up.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import MooringsError

if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[], None]

IDLE_SECONDS: Final = 30.0
"""How long a thread waits for work before it ends: longer than the default ping interval of 10 s,
so that the thread which pings is made once."""


class ExecutorClosed(MooringsError):
    """Work was given to the executor of a client that has been closed."""


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """What an executor is doing, at one moment.

    Attributes:
        name: the executor's name.
        busy: threads at work.
        idle: threads that wait for work.
        queued: jobs that wait for a thread.
        limit: how many threads there may be.
    """

    name: str
    busy: int
    idle: int
    queued: int
    limit: int


class ClientExecutor:
    """Runs jobs in daemon threads: made on demand up to a limit, the idle ones reused.

    Everything here may be called from any thread, and only `wait_quiet` blocks. The thread that
    fell idle last is woken first, so that the others can grow old and end.

    Args:
        name: for thread names and statistics.
        limit: how many threads there may be; further jobs queue.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._lock = threading.Lock()
        self._became_quiet = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._idle: list[_Worker] = []
        self._threads = 0
        self._made = 0
        self._held = 0
        self._closed = False

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<ClientExecutor {s.name!r} busy={s.busy} idle={s.idle} "
            f"queued={s.queued} limit={s.limit}>"
        )

    def statistics(self) -> ExecutorStatistics:
        """A consistent snapshot."""
        with self._lock:
            idle = len(self._idle)
            return ExecutorStatistics(
                self.name, self._threads - idle, idle, len(self._queue), self.limit
            )

    def submit(self, job: Job) -> None:
        """Run `job` as soon as there is a thread for it. It must not raise.

        Raises:
            ExecutorClosed: `close()` was called.
        """
        with self._lock:
            if self._closed:
                raise ExecutorClosed(f"the client of executor {self.name!r} has been closed")
            if self._idle:
                self._idle.pop().hand(job)
                return
            if self._threads >= self.limit:
                self._queue.append(job)
                return
            self._threads += 1
            self._made += 1
            worker = _Worker(self, job, f"{self.name}-{self._made}")
        try:
            worker.start()
        except RuntimeError:
            # The system gave us no thread (or the interpreter is ending). Say so to this caller
            # rather than leave the job in a queue that perhaps nobody serves.
            with self._lock:
                self._threads -= 1
            raise

    def withdraw(self, job: Job) -> bool:
        """Take a job back that no thread has begun; False when it is too late for that."""
        with self._lock:
            try:
                self._queue.remove(job)
            except ValueError:
                return False
            return True

    def close(self) -> None:
        """Refuse new work and let the threads end: the idle now, the others after their work.

        Work that is queued is still done, because somebody may be waiting for it. Idempotent.
        """
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._threads -= len(idle)
        for worker in idle:
            worker.hand(None)

    def hold(self) -> None:
        """An operation of several jobs has begun: between two of them it is not quiet here."""
        with self._lock:
            self._held += 1

    def release(self) -> None:
        """Such an operation has ended."""
        with self._lock:
            self._held -= 1
            if self._is_quiet():
                self._became_quiet.notify_all()

    def wait_quiet(self, seconds: float) -> bool:
        """Wait until nothing runs, is queued or held; whether that came within `seconds`.

        The one method that blocks: not for an event loop's thread, nor for a thread of this
        executor's own.
        """
        with self._became_quiet:
            return self._became_quiet.wait_for(self._is_quiet, seconds)

    def _is_quiet(self) -> bool:
        return not self._queue and not self._held and self._threads == len(self._idle)

    def _next_job(self, worker: _Worker) -> Job | None:
        """What `worker` is to do now; it is entered as idle when that is nothing."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            if self._closed:
                self._threads -= 1
                worker.dismissed = True
            else:
                self._idle.append(worker)
            if self._is_quiet():
                self._became_quiet.notify_all()
            return None

    def _dismiss(self, worker: _Worker) -> bool:
        """Let an idle `worker` go, unless it was handed something at this very moment."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self._threads -= 1
            return True


class _Worker:
    """One thread, and the slot through which it is handed a job (None: end)."""

    __slots__ = ("_executor", "_filled", "_job", "_thread", "dismissed")

    def __init__(self, executor: ClientExecutor, job: Job, name: str) -> None:
        self._executor = executor
        self._job: Job | None = job
        # A bare lock that one side acquires and the other releases: the cheapest way to wake a
        # thread that Python has.
        self._filled = threading.Lock()
        self._filled.acquire()
        self.dismissed = False
        # Daemon: a thread stuck in a socket must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hand(self, job: Job | None) -> None:
        """Called once per turn as idle, by whoever took the worker off the idle list."""
        self._job = job
        self._filled.release()

    def _run(self) -> None:
        job, self._job = self._job, None
        while job is not None:
            job()
            # Neither the job nor its result may live on in an idle thread.
            job = None
            job = self._executor._next_job(self) or self._wait()  # noqa: SLF001 - one unit

    def _wait(self) -> Job | None:
        if self.dismissed:
            return None
        while not self._filled.acquire(timeout=IDLE_SECONDS):
            if self._executor._dismiss(self):  # noqa: SLF001 - one unit
                return None
        job, self._job = self._job, None
        return job
