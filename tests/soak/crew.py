"""The processes whose connections are soaked, as the one who started them sees them."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from .holdings import Holdings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 90.0
"""Seconds for an answer: a write of each worker may have to be waited for."""

LAST_LINES: Final = 20
"""Of what one says on stderr: shown when it has died."""
LAST_WORDS: Final = 5.0
"""Seconds for them."""


class SoakFailed(Exception):
    """What was promised does not hold; the message says what."""


class Hand:
    """One process with its connections."""

    def __init__(self, stack: str, connections: int, url: str) -> None:
        self.stack = stack
        self.connections = connections
        self.process = subprocess.Popen(
            (sys.executable, "-m", "tests.soak.worker", stack, str(connections), url),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            bufsize=1,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._readers = [threading.Thread(target=read) for read in (self._read, self._listen)]
        for reader in self._readers:
            reader.start()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: `answer` says so
            self.process.stdin.write(f"{command}\n")

    def answer(self) -> dict[str, Any]:
        """What it says next.

        Raises:
            SoakFailed: it has ended, or says nothing.
        """
        try:
            line = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise SoakFailed(f"{self.stack} says nothing for {PATIENCE:g} s") from None
        if line is None:
            raise SoakFailed(self._died())
        found: dict[str, Any] = json.loads(line)
        return found

    def release(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # of what it was told after it had died
            self.process.stdin.close()

    def end(self, seconds: float) -> int | None:
        """Let it end; its exit status. One that does not is killed, and has none."""
        self.release()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
        finally:
            self._closed()

    def _died(self) -> str:
        """That it has, of what, and what it said last."""
        try:
            status = self.process.wait(LAST_WORDS)
            of = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
        except subprocess.TimeoutExpired:
            of = "closed its output, and lives on"
        self._readers[1].join(LAST_WORDS)
        return "\n".join(
            [f"{self.stack} (process {self.process.pid}) has {of}; it said last:", *self._said]
        )

    def _closed(self) -> None:
        for reader in self._readers:
            reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _listen(self) -> None:
        """Pass on what it says to whoever watches, and keep the end of it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            sys.stderr.write(line)
            self._said.append(line.rstrip())


class Crew:
    """All of them: asked together, and each answers for itself. None outlives the block."""

    END_SECONDS: Final = 60.0

    def __init__(self, sizes: Mapping[str, int], url: str) -> None:
        self.hands = [Hand(stack, size, url) for stack, size in sizes.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self.hands:
            hand.process.kill()  # unless it has ended
        for hand in self.hands:
            hand.end(self.END_SECONDS)

    @property
    def connections(self) -> int:
        return sum(hand.connections for hand in self.hands)

    def wait_up(self) -> None:
        """Return once all connections are ready."""
        for hand in self.hands:
            hand.answer()

    def ask(self, command: str) -> dict[str, dict[str, Any]]:
        """The answers of all, by stack."""
        for hand in self.hands:
            hand.tell(command)
        return {hand.stack: hand.answer() for hand in self.hands}

    def look(self) -> dict[str, Any]:
        """The sums of what they say of their connections."""
        looks = list(self.ask("look").values())
        found: dict[str, Any] = {
            what: sum(look[what] for look in looks)
            for what in ("ready", "sound", "acknowledged", "failed", "transitions")
        }
        found["generations"] = max(look["generations"] for look in looks)
        found["errors"] = sum((Counter(look["errors"]) for look in looks), Counter())
        return found

    def count(self) -> dict[str, Holdings]:
        """What each of them holds."""
        return {stack: Holdings(**counts) for stack, counts in self.ask("count").items()}

    def acknowledged(self) -> Iterator[tuple[str, set[str]]]:
        """The documents of each worker that a server has acknowledged."""
        for answer in self.ask("written").values():
            for worker, (number, failed) in answer["workers"].items():
                missing = set(failed)
                yield worker, {f"{worker}-{n}" for n in range(1, number + 1) if n not in missing}

    def end(self) -> dict[str, int | None]:
        """Let all end, at the same time; their exit statuses."""
        for hand in self.hands:
            hand.release()
        return {hand.stack: hand.end(self.END_SECONDS) for hand in self.hands}
