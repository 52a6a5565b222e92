"""What DESIGN 2 and 3 say of one connection, as a machine that can be run beside the real one.

Nothing of the runtime is imported, its table included. The model is told the same events, and says
after each what has to be true: the state, whether the database is handed out, which calls wait for
an answer, which clients are open, what every command came to, and when something is due next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# All are multiples of 0.125, so that sums are exact, and few of those sums are equal: where two
# timers end in one instant, either may come first.
INTERVAL, TIMEOUT, FAILURES = 10.5, 2.0, 2
ATTEMPTS, NAP, BACKOFF, LOOK = 2, 0.75, 3.375, 0.25
HOOK_TIMEOUT, CLOSE, LINGER, HEARTBEAT = 4.25, 1.25, 2.0, 0.25
PERIOD = 30.0
STALE = INTERVAL + FAILURES * TIMEOUT

TABLE = {
    ("init", "start"): "connecting",
    ("init", "stop"): "stopped",
    ("connecting", "established"): "ready",
    ("connecting", "gave_up"): "failed",
    ("connecting", "crashed"): "failed",
    ("connecting", "stop"): "stopped",
    ("ready", "lost"): "connecting",
    ("ready", "crashed"): "failed",
    ("ready", "stop"): "stopped",
    ("failed", "retry"): "connecting",
    ("failed", "stop"): "stopped",
    ("stopped", "start"): "connecting",
}


@dataclass
class Client:
    """A native client.

    Attributes:
        number: they are counted from 1.
        counted: it has become ready, and has its generation.
        hooks_done: how many hooks have succeeded on it.
        runner: who runs its hooks now: "episode", "late" or nobody.
        hook_until: when the running hook is over its time.
        pinged: the last that was asked of it was a ping, so that another one would be news.
    """

    number: int
    counted: bool = False
    hooks_done: int = 0
    runner: str = ""
    hook_until: float = math.inf
    pinged: bool = True


@dataclass
class Command:
    """`start`, `stop` or `restart`, from its call until its caller is told.

    Attributes:
        phase: "queued", "closing" (the old client first), or of a restart "ping" and "hook" on
            the new client, "dropping" it, or "retrying" until the episode begins.
        until: when the phase ends by itself.
        cancelled: its caller is gone.
    """

    number: int
    kind: str
    phase: str = "queued"
    until: float = math.inf
    cancelled: bool = False


@dataclass
class Model:
    """One connection. `intensity`: how many crashes within `PERIOD` it may have."""

    intensity: int = 1
    now: float = 0.0
    state: str = "init"
    phase: str = ""  # ping, hook; rest, ping; wait, watch (a nap, or the backoff); parked
    until: float = math.inf
    attempt: int = 0
    misses: int = 0
    told: str = ""  # the driver's event that nobody has looked at yet
    suspected: bool = False
    fresh: bool = False
    nudged: bool = False
    heals: bool = True
    wait_until: float = math.inf
    hooks: int = 0
    client: Client | None = None
    new: Client | None = None
    retired: dict[int, float] = field(default_factory=dict)  # by when its closing begins at most
    opened: int = 0
    closing: int = 0  # the client that a stop closes
    closing_until: float = math.inf
    generation: int = 0
    proof: float = 0.0
    restarts: int = 0
    crashes: list[float] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    asked: int = 0
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    meanwhile: set[int] = field(default_factory=set)  # clients handed out during this event
    seen: int = 0  # how many clients there are: it decides where two orders are as good
    outcomes: dict[int, str] = field(default_factory=dict)
    hook_calls: list[tuple[int, int]] = field(default_factory=list)  # hook, client

    # -- what has to be true ------------------------------------------------------------------

    @property
    def served(self) -> bool:
        """Whether `database()` answers: ready, and no late hook withholds it."""
        return self.state == "ready" and self.client is not None and not self.client.runner

    @property
    def waiting_pings(self) -> set[int]:
        """The clients whose ping waits for an answer."""
        pinged = {self.client.number} if self.client and self.phase in {"ping", "watch"} else set()
        return pinged | ({self.new.number} if self.new and self._replacing("ping") else set())

    def running_hook(self, client: Client | None) -> bool:
        """Whether a hook runs on it."""
        return client is not None and bool(client.runner)

    def _replacing(self, *phases: str) -> bool:
        return bool(self.commands) and self.commands[0].phase in phases

    # -- steps --------------------------------------------------------------------------------

    def step(self, event: str) -> None:
        """Take an edge."""
        source, self.state = self.state, TABLE[self.state, event]
        self.steps.append((source, event, self.state))

    def begin(self) -> None:
        """The task starts for the first time."""
        self.step("start")
        self._new_incarnation()

    def _new_incarnation(self) -> None:
        self.told, self.suspected, self.fresh, self.nudged, self.misses = "", False, False, False, 0
        self.client = None
        self._episode()

    def _open(self) -> Client:
        self.opened += 1
        return Client(self.opened)

    def _retire(self, client: Client | None) -> None:
        if client is not None:
            linger = LINGER if client.counted else 0.0
            self.retired[client.number] = self.now + linger

    # -- connecting ---------------------------------------------------------------------------

    def _episode(self) -> None:
        self.attempt = 0
        self._attempt()

    def _attempt(self) -> None:
        self.attempt += 1
        self._bring_up()

    def _bring_up(self) -> None:
        if self.client is None or self.fresh:
            self._retire(self.client)
            self.client = self._open()
        self.fresh = False
        self.client.pinged = True
        self.phase, self.until = "ping", self.now + TIMEOUT

    def _verified(self) -> None:
        client = self.client
        assert client is not None
        client.pinged = False
        self.phase, self.until = "hook", math.inf
        if client.runner:
            return  # a late hook is still running: the episode waits for it
        if client.hooks_done < self.hooks:
            self._run_hook(client, "episode")
        else:
            self._hooks_over()

    def _hooks_over(self) -> None:
        if self.fresh:
            self._bring_up()
            return
        client = self.client
        assert client is not None
        self.generation += not client.counted
        client.counted = True
        self.told, self.nudged, self.misses, self.proof = "", False, 0, self.now
        self.step("established")
        self._rest()

    def _attempt_failed(self, reason: str) -> None:
        if reason == "auth" or self.attempt == ATTEMPTS:
            self.step("gave_up")
            self._back_off(heals=reason != "auth")
        else:
            self._wait(NAP, heals=True)

    # -- waiting for the next attempt ---------------------------------------------------------

    def _back_off(self, *, heals: bool) -> None:
        self.told = ""
        self._wait(BACKOFF, heals=heals)

    def _wait(self, seconds: float, *, heals: bool) -> None:
        self.heals, self.wait_until = heals, self.now + seconds
        if self.told or self.nudged:
            self._try_again()
        else:
            self._look_later()

    def _look_later(self) -> None:
        watches = self.heals and self.client is not None and self.client.pinged
        self.phase = "wait"
        self.until = min(self.now + LOOK if watches else math.inf, self.wait_until)
        if self.now >= self.until:
            self._wait_over()

    def _wait_over(self) -> None:
        if self.now >= self.wait_until:
            self._try_again()
        else:
            self.phase, self.until = "watch", min(self.now + TIMEOUT, self.wait_until)

    def _try_again(self) -> None:
        if self.state == "failed":
            self._retry()
        else:
            self.told, self.nudged = "", False
            self._attempt()

    def _retry(self) -> None:
        self.told, self.nudged = "", False
        self.step("retry")
        for command in self.commands:
            if command.phase == "retrying":
                self._done(command, "ok")
        self._episode()

    @property
    def _waits(self) -> bool:
        return self.phase in {"wait", "watch"}

    # -- ready --------------------------------------------------------------------------------

    def _rest(self) -> None:
        if self.served and self.client is not None:
            self.meanwhile.add(self.client.number)
        if self.told:
            self._ping(suspected=True)
        else:
            self.phase, self.until = "rest", self.now + INTERVAL

    def _ping(self, *, suspected: bool) -> None:
        self.suspected, self.told = suspected, ""
        self.phase, self.until = "ping", self.now + TIMEOUT

    def _missed(self) -> None:
        self.misses += 1
        if self.suspected or self.told or self.misses == FAILURES:
            self._lose()
        else:
            self.phase, self.until = "ping", self.now + TIMEOUT

    def _lose(self) -> None:
        self.misses, self.suspected, self.told = 0, False, ""
        self.step("lost")
        self._episode()

    # -- what the provider answers ------------------------------------------------------------

    def ping(self, answer: str) -> None:
        """The present client's ping: "ok", "refused", "auth", "timeout" or "bug"."""
        match self.state, answer:
            case _, "bug":
                self.crash()
            case _, "ok" if self.phase == "watch":
                self._try_again()
            case _ if self.phase == "watch":
                self._look_later()
            case "connecting", "ok":
                self._verified()
            case "connecting", reason:
                self._attempt_failed(reason)
            case "ready", "ok":
                self.misses, self.suspected, self.proof = 0, False, self.now
                self._rest()
            case _:
                self._missed()

    # -- hooks --------------------------------------------------------------------------------

    def register(self) -> None:
        """`on_ready`."""
        self.hooks += 1
        if self.state == "ready" and self.client is not None and not self.client.runner:
            self._run_hook(self.client, "late")

    def _run_hook(self, client: Client, runner: str) -> None:
        client.runner, client.hook_until = runner, self.now + HOOK_TIMEOUT
        self.hook_calls.append((client.hooks_done, client.number))

    def hook(self, answer: str) -> None:
        """The hook that runs on the present client: as `ping`."""
        client = self.client
        assert client is not None
        runner, awaited = client.runner, self.state == "connecting" and self.phase == "hook"
        client.runner, client.hook_until = "", math.inf
        if answer == "ok":
            client.hooks_done += 1
            if client.hooks_done < self.hooks:
                self._run_hook(client, runner)
            elif awaited:
                self._hooks_over()
            elif self.served:
                self.meanwhile.add(client.number)
        elif answer == "bug":
            self.crash()
        elif runner == "episode":
            self._attempt_failed(answer)
        elif self.state == "ready":
            self._lose()
        elif awaited:
            self._run_hook(client, "episode")

    # -- crashes ------------------------------------------------------------------------------

    def crash(self) -> None:
        """An error that nobody knows."""
        if self.state != "failed":
            self.step("crashed")
        self._drop_new()
        self._retire(self.client)
        self.client = None
        self.crashes = [t for t in self.crashes if self.now - t <= PERIOD] + [self.now]
        if len(self.crashes) > self.intensity:
            self.crashes = []
            self.phase, self.until = "parked", math.inf
        else:
            self._reincarnate()

    def _reincarnate(self) -> None:
        self.restarts += 1
        self.client = None
        self.fresh = self.nudged = False
        self.told, self.suspected, self.misses = "", False, 0
        self._retry()

    # -- the driver ---------------------------------------------------------------------------

    def hear(self, signal: str) -> None:
        """An event of the present client's."""
        match self.state, signal:
            case "ready", "lost":
                self._lose()
            case "ready", "suspect":
                self.told = signal
                if self.phase == "rest":
                    self._ping(suspected=True)
            case "connecting", "usable":
                self.told = signal
                if self._waits:
                    self._try_again()
            case "failed", "usable" if self.heals:
                self._retry()
            case _:
                pass

    # -- commands -----------------------------------------------------------------------------

    def command(self, kind: str) -> int:
        """A command is given; its number."""
        self.asked += 1
        self.commands.append(Command(self.asked, kind))
        if len(self.commands) == 1:
            self._do(self.commands[0])
        return self.asked

    def _done(self, command: Command, outcome: str) -> None:
        """The caller is told, and the next command has its turn."""
        self.outcomes[command.number] = "cancelled" if command.cancelled else outcome
        first = command is self.commands[0]
        self.commands.remove(command)
        if first and self.commands:
            self._do(self.commands[0])

    def _do(self, command: Command) -> None:
        match command.kind, self.state:
            case "start", "stopped":
                self._start(command)
            case "start", _:
                self._done(command, "ok")
            case "stop", _:
                self._stop(command)
            case "restart", "stopped":
                self._start(command)
            case "restart", "ready":
                self.new = self._open()
                command.phase, command.until = "ping", self.now + TIMEOUT
            case _:
                self._begin_anew(command)

    def _start(self, command: Command) -> None:
        if self.closing:
            command.phase = "closing"
            return
        self.step("start")
        self._new_incarnation()
        self._done(command, "ok")

    def _stop(self, command: Command) -> None:
        if self.state != "stopped":
            self.step("stop")
            self.phase, self.until = "", math.inf
            if self.client is not None:
                self.closing, self.closing_until = self.client.number, self.now + CLOSE
            self.client = None
        if self.closing:
            command.phase = "closing"
        else:
            self._done(command, "ok")

    def _begin_anew(self, command: Command) -> None:
        """A restart of a connection that is not ready: a new episode with a new client."""
        if self.state == "failed":
            command.phase = "retrying"
            if self.phase == "parked":
                self._reincarnate()
            else:
                self.fresh = True
                self._retry()
            return
        self.fresh = True
        if self._waits:
            self._try_again()
        else:
            self.nudged = True
        self._done(command, "ok")

    def cancel(self, number: int) -> None:
        """The caller of a command is cancelled."""
        command = next(c for c in self.commands if c.number == number)
        if command.phase in {"ping", "hook"}:
            command.cancelled = True
            self._drop_new()
        elif command.phase != "dropping":
            self._done(command, "cancelled")

    # -- a restart's new client ---------------------------------------------------------------

    def new_ping(self, answer: str) -> None:
        """The new client's ping."""
        assert self.new is not None
        if answer != "ok":
            self._drop_new()
        elif self.hooks:
            self.commands[0].phase, self.commands[0].until = "hook", math.inf
            self._run_hook(self.new, "episode")
        else:
            self._install()

    def new_hook(self, answer: str) -> None:
        """The hook that runs on the new client."""
        client = self.new
        assert client is not None
        client.runner, client.hook_until = "", math.inf
        if answer != "ok":
            self._drop_new()
            return
        client.hooks_done += 1
        if client.hooks_done < self.hooks:
            self._run_hook(client, "episode")
        else:
            self._install()

    def _drop_new(self) -> None:
        if self.new is not None and self.commands[0].phase != "dropping":  # it may be, already
            command = self.commands[0]
            command.phase, command.until = "dropping", self.now + CLOSE
            self.new.runner, self.new.hook_until = "", math.inf

    def _install(self) -> None:
        new, self.new = self.new, None
        assert new is not None
        new.pinged = False
        self._retire(self.client)
        self.client = new
        self.misses = 0
        self.proof = self.now
        if self.state == "ready":
            new.counted = True
            self.generation += 1
            self._rest()
        elif self.state == "failed":
            self._retry()
        else:
            # Who restarts next may come before the episode that the new client begins, or after.
            first = self.seen > self.opened and [c.kind for c in self.commands[1:2]] == ["restart"]
            self.fresh = first
            if self._waits:
                self._try_again()
            else:
                self.nudged = True
                self._episode()
            if first:
                self._done(self.commands[1], "ok")
        self._done(self.commands[0], "ok")

    # -- time ---------------------------------------------------------------------------------

    def due(self) -> list[tuple[float, str]]:
        """What comes by itself, and when, the first first."""
        found = [(self.until, "own"), (self.closing_until, "closed")]
        if self.client is not None:
            found.append((self.client.hook_until, "hook"))
        if self.new is not None:
            found.append((self.new.hook_until, "new hook"))
        if self.commands:
            found.append((self.commands[0].until, "command"))
        found += [
            (t + HEARTBEAT, "retired") for t in self.retired.values() if t + HEARTBEAT > self.now
        ]
        return sorted(entry for entry in found if entry[0] < math.inf)

    def advance(self, now: float) -> None:
        """Time passes until `now`; what is due happens, in the order of time."""
        self.now = now
        over = now - HEARTBEAT - CLOSE
        self.retired = {number: when for number, when in self.retired.items() if when > over}
        while (due := self.due()) and due[0][0] <= now:
            self._happen(due[0][1])

    def _happen(self, what: str) -> None:
        match what:
            case "own":
                self._own_time_over()
            case "closed":
                self.closing, self.closing_until = 0, math.inf
                if self.commands and self.commands[0].phase == "closing":
                    command = self.commands[0]
                    if command.kind == "stop":
                        self._done(command, "ok")
                    else:
                        self._start(command)
            case "hook":
                self.hook("timeout")
            case "new hook":
                self.new_hook("timeout")
            case _:
                self._command_time_over(self.commands[0])

    def _command_time_over(self, command: Command) -> None:
        if command.phase == "ping":
            self.new_ping("timeout")
        else:
            self.new = None
            self._done(command, "not ready")

    def _own_time_over(self) -> None:
        match self.phase:
            case "rest":
                self._ping(suspected=False)
            case "wait":
                self._wait_over()
            case _:
                self.ping("timeout")
