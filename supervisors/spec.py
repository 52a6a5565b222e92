"""What a supervisor is told and what it tells: specs, policies, answers and events."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Strategy(StrEnum):
    """Which children are restarted when one ends."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class Restart(StrEnum):
    """When a child that ended is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Only after an abnormal end: an exception."""
    TEMPORARY = "temporary"
    """Never; its spec is forgotten when it ends."""


class AutoShutdown(StrEnum):
    """Whether the supervisor ends by itself when significant children do.

    Only an end of their own counts that is followed by no restart: neither `terminate_child`, nor
    being stopped for a sibling's sake.
    """

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    """When one of them ends."""
    ALL_SIGNIFICANT = "all_significant"
    """When the last of them ends that was active."""


class ChildState(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """Between two incarnations: it waits out its backoff, or for its siblings to stop and start."""
    STOPPING = "stopping"
    STOPPED = "stopped"


_Words = TypeVar("_Words", bound=StrEnum)


class TaskStatus(Protocol):
    """What a child's `run` is handed: it says `started(value)` once it is up."""

    def started(self, value: Any = None, /) -> None:
        """Say that the child is up; `value` is for the one who started it."""


class Run(Protocol):
    """A child: an async function that says when it has started, and runs until cancelled."""

    def __call__(self, *, task_status: TaskStatus) -> Awaitable[object]:
        """Be the child."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to run one child.

    Attributes:
        id: unique among the supervisor's children.
        run: the async function; it is called anew for every incarnation.
        restart: when it is started again after its end.
        shutdown: how many seconds it has to end once cancelled, before it is reported.
        significant: whether its end counts for `AutoShutdown`: the normal one of a transient
            child, any of a temporary one. Needs one of these, and a supervisor that shuts down.
        intensity: a budget of its own: this many restarts within `period` seconds count nothing
            upward. None: every restart counts against the supervisor's budget.
        period: the window of that budget, in seconds; both or neither.
        ask: how to ask `run` to end, called once for each stop; must not block, and must not
            raise. A child that can be asked is never cancelled by its supervisor: it has to see to
            it itself that what it waits for ends. None: it is cancelled.
        backoff: how long it waits before every restart. None: not at all.

    Raises:
        ValueError: a value is out of range, only one of `intensity` and `period` is given, or a
            permanent child is significant.
        TypeError: `run` or `ask` cannot be called, `id` is no string, `intensity` no integer or
            `backoff` no `Backoff`.
    """

    id: str
    run: Run
    restart: Restart = Restart.PERMANENT
    shutdown: float = 5.0
    significant: bool = False
    intensity: float | None = None
    period: float | None = None
    ask: Callable[[], object] | None = None
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"child {self.id!r}: an id must be a string")
        if not callable(self.run):
            raise TypeError(f"child {self.id!r}: run must be an async function")
        if self.ask is not None and not callable(self.ask):
            raise TypeError(f"child {self.id!r}: ask must be a function, got {self.ask!r}")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise TypeError(f"child {self.id!r}: backoff must be a Backoff, got {self.backoff!r}")
        if type(self.restart) is not Restart:
            restart = member(Restart, self.restart, f"child {self.id!r}: restart")
            object.__setattr__(self, "restart", restart)
        if not self.shutdown >= 0:
            raise ValueError(f"child {self.id!r}: shutdown must be >= 0, got {self.shutdown}")
        if self.significant and self.restart is Restart.PERMANENT:
            raise ValueError(f"child {self.id!r}: a permanent child cannot be significant")
        if (self.intensity is None) != (self.period is None):
            raise ValueError(f"child {self.id!r}: intensity and period belong together")
        if self.intensity is not None and self.period is not None:
            check_budget(f"child {self.id!r}", self.intensity, self.period)


def member(kind: type[_Words], word: str, owner: str) -> _Words:
    """The member of an enumeration that `word` is, or names.

    Raises:
        ValueError: it has none; `owner` says whose value it is.
    """
    try:
        return kind(word)
    except ValueError:
        known = ", ".join(kind)
        raise ValueError(f"{owner} must be one of {known}; got {word!r}") from None


def check_budget(owner: str, intensity: float, period: float) -> None:
    """Refuse a budget that means nothing.

    Raises:
        ValueError: `intensity` is negative, or `period` is not positive and finite.
        TypeError: `intensity` is neither an integer nor infinite.
    """
    if not isinstance(intensity, int) and intensity != math.inf:
        raise TypeError(f"{owner}: intensity must be an integer or math.inf, got {intensity!r}")
    if intensity < 0:
        raise ValueError(f"{owner}: intensity must be >= 0, got {intensity}")
    if not 0 < period < math.inf:
        raise ValueError(f"{owner}: period must be positive and finite, got {period}")


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One line of `which_children()`; `restarts` counts them since the child was first started."""

    id: str
    state: ChildState
    restart: Restart
    significant: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many specs a supervisor holds, and how many of them have a running task."""

    specs: int
    active: int


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A child said `started`; `restarts` is 0 for its first incarnation."""

    supervisor: str
    id: str
    restarts: int


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """An incarnation is over: by itself (`error` None), by an error, or because it was stopped."""

    supervisor: str
    id: str
    error: BaseException | None
    stopping: bool


@dataclass(frozen=True, slots=True)
class ChildRestarting:
    """A new incarnation is about to run, after a rest of `delay` seconds that begins now.

    Sooner if `restart_child` ends the rest; later where it shares its fate with others that take
    longer to stop, or with commands that come first.
    `reason` is `crash`, `exit` or `start_failed`; or `sibling`: it shares the fate of another.
    """

    supervisor: str
    id: str
    reason: str
    restarts: int
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class ChildUnstopped:
    """A child outlived its `shutdown` seconds; `stack` is where it is, innermost frame last.

    Not told of one that was stopped before its `run` began, or while it rested before a restart.

    The supervisor goes on waiting: a trio task cannot be abandoned.
    """

    supervisor: str
    id: str
    shutdown: float
    stack: str


@dataclass(frozen=True, slots=True)
class Escalated:
    """The supervisor gave up; `error` is the `RestartIntensityExceeded` it will raise."""

    supervisor: str
    id: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    """The supervisor ends, without an error, because the significant child `id` did."""

    supervisor: str
    id: str


SupervisorEvent = (
    ChildStarted | ChildEnded | ChildRestarting | ChildUnstopped | Escalated | ShuttingDown
)
if TYPE_CHECKING:
    SupervisorObserver = Callable[[SupervisorEvent], object]
