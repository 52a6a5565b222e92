"""The executor per client: threads on demand, reused, never in the way of the interpreter's end."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from moorings.providers import threads
from moorings.providers.threads import ClientExecutor, ExecutorClosed, ExecutorStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0


class Held:
    """Jobs that run until they are released."""

    def __init__(self, executor: ClientExecutor) -> None:
        self._executor = executor
        self._release = threading.Event()
        self._begun = threading.Semaphore(0)
        self._ended = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def submit(self) -> None:
        self._executor.submit(self._job)

    def wait_begun(self, count: int) -> None:
        for _ in range(count):
            assert self._begun.acquire(timeout=PATIENCE)

    def release(self) -> None:
        self._release.set()

    def wait_ended(self, count: int) -> None:
        for _ in range(count):
            assert self._ended.acquire(timeout=PATIENCE)

    def _job(self) -> None:
        self.threads.append(threading.current_thread())
        self._begun.release()
        self._release.wait(PATIENCE)
        self._ended.release()


@pytest.fixture
def executor() -> Iterator[ClientExecutor]:
    executor = ClientExecutor("tested", 2)
    yield executor
    executor.close()


def wait_idle(executor: ClientExecutor, count: int) -> None:
    while executor.statistics().idle != count:
        pass


def test_no_thread_is_made_before_there_is_work(executor: ClientExecutor) -> None:
    assert executor.statistics() == ExecutorStatistics("tested", 0, 0, 0, 2)


def test_threads_are_made_up_to_the_limit_and_the_rest_queues(executor: ClientExecutor) -> None:
    held = Held(executor)
    for _ in range(5):
        held.submit()
    held.wait_begun(2)
    assert executor.statistics() == ExecutorStatistics("tested", 2, 0, 3, 2)
    assert repr(executor) == "<ClientExecutor 'tested' busy=2 idle=0 queued=3 limit=2>"
    held.release()
    held.wait_ended(5)
    assert len(set(held.threads)) == 2


def test_an_idle_thread_is_used_before_another_is_made(executor: ClientExecutor) -> None:
    for _ in range(3):
        held = Held(executor)
        held.submit()
        held.release()
        held.wait_ended(1)
        wait_idle(executor, 1)
    assert executor.statistics() == ExecutorStatistics("tested", 0, 1, 0, 2)


def test_queued_work_can_be_taken_back_and_begun_work_cannot(executor: ClientExecutor) -> None:
    held, waiting = Held(executor), threading.Event()
    held.submit()
    held.submit()
    held.wait_begun(2)
    executor.submit(waiting.set)
    assert executor.withdraw(waiting.set)
    assert not executor.withdraw(waiting.set)
    held.release()
    held.wait_ended(2)
    wait_idle(executor, 2)
    assert not waiting.is_set()


def test_close_refuses_new_work_but_does_what_is_queued(executor: ClientExecutor) -> None:
    held = Held(executor)
    for _ in range(3):
        held.submit()
    held.wait_begun(2)
    executor.close()
    with pytest.raises(ExecutorClosed, match="tested"):
        held.submit()
    held.release()
    held.wait_ended(3)
    for thread in set(held.threads):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert executor.statistics() == ExecutorStatistics("tested", 0, 0, 0, 2)


def test_close_ends_idle_threads_at_once(executor: ClientExecutor) -> None:
    held = Held(executor)
    held.submit()
    held.release()
    held.wait_ended(1)
    wait_idle(executor, 1)
    executor.close()
    held.threads[0].join(PATIENCE)
    assert not held.threads[0].is_alive()


def test_a_thread_without_work_grows_old_and_ends(
    executor: ClientExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)
    held = Held(executor)
    held.submit()
    held.release()
    held.wait_ended(1)
    held.threads[0].join(PATIENCE)
    assert executor.statistics() == ExecutorStatistics("tested", 0, 0, 0, 2)
    again = Held(executor)
    again.submit()
    again.wait_begun(1)
    again.release()


def test_work_handed_over_while_a_thread_gives_up_is_done(
    executor: ClientExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job is lost between a thread's last look and its end."""
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.0001)
    done = threading.Semaphore(0)
    for _ in range(2000):
        executor.submit(done.release)
        assert done.acquire(timeout=PATIENCE)


def test_a_thread_that_was_just_handed_work_is_not_dismissed(executor: ClientExecutor) -> None:
    worker = threads._Worker(executor, print, "handed")
    assert not executor._dismiss(worker)


def test_a_system_without_threads_is_reported_to_who_asked(
    executor: ClientExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_worker: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(threads._Worker, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            executor.submit(print)
    assert executor.statistics() == ExecutorStatistics("tested", 0, 0, 0, 2)


def test_a_stuck_thread_does_not_keep_the_interpreter_from_ending() -> None:
    program = (
        "import threading\n"
        "from moorings.providers.threads import ClientExecutor\n"
        "begun = threading.Event()\n"
        "def stuck():\n"
        "    begun.set()\n"
        "    threading.Event().wait()\n"
        "ClientExecutor('stuck', 1).submit(stuck)\n"
        "begun.wait()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE, check=False)
    assert ended.returncode == 0


# -- quiet


def test_it_is_quiet_when_nothing_runs_is_queued_or_held() -> None:
    executor, release = ClientExecutor("test", 1), threading.Event()
    assert executor.wait_quiet(0.0)
    for _ in range(2):  # one runs, one is queued
        executor.submit(lambda: release.wait(PATIENCE) and None)
    assert not executor.wait_quiet(0.0)
    executor.hold()
    release.set()
    assert not executor.wait_quiet(0.05), "an operation of several jobs has begun and not ended"
    executor.release()
    assert executor.wait_quiet(PATIENCE)
    executor.close()
    assert executor.wait_quiet(0.0)
