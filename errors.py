"""The ground floor: every error Moorings raises, and the reasons a connection may fail for.

Three kinds, told apart by whose move is next. *Yours*: `SettingsError`, `UnknownBackend`,
`UnknownConnection`, `HostMismatch`, `NotSupportedLocally` (change the program or its settings).
*The world's*: `ConnectionNotReady` (wait, or repair the database). *A bug's*: `IllegalTransition`,
`RestartIntensityExceeded`, and the `SupervisorError`s.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moorings.runtime.status import ConnectionStatus


class FailureReason(StrEnum):
    """Why a connection is not ready; the `reason` label of metrics and pages."""

    DNS = "dns"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    NETWORK = "network"
    TLS = "tls"
    AUTH = "auth"
    TOPOLOGY = "topology"
    OVERLOAD = "overload"
    CONFIG = "config"
    SECRET = "secret"  # noqa: S105 - the name of a reason
    BUG = "bug"

    @property
    def needs_human(self) -> bool:
        """True where trying again at once cannot help: the episode ends at the first failure."""
        return self in _NEEDS_HUMAN

    @property
    def heals_by_itself(self) -> bool:
        """True where a driver's event that shows a usable server ends the long backoff."""
        return self in _HEALS_BY_ITSELF


_NEEDS_HUMAN = frozenset(
    {FailureReason.AUTH, FailureReason.TLS, FailureReason.CONFIG, FailureReason.SECRET}
)
_HEALS_BY_ITSELF = frozenset(
    {
        FailureReason.DNS,
        FailureReason.REFUSED,
        FailureReason.TIMEOUT,
        FailureReason.NETWORK,
        FailureReason.TOPOLOGY,
    }
)


class MooringsError(Exception):
    """The base of every error that Moorings raises on purpose. Each can be copied and pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[MooringsError], args: tuple[Any, ...]) -> MooringsError:
    """One of this kind without a call of its `__init__`, whose arguments are not `args`."""
    return kind.__new__(kind, *args)


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """One thing wrong with the settings: where it stands, what it is, and how to mend it.

    Attributes:
        file: the file's path, an environment variable's name, or where else it came from.
        layer: `default`, the environment's name, or "" where layers do not apply.
        key: the dotted path of the key within its layer, or "" for the whole file.
        problem: what is wrong. Never contains a secret value.
        cure: what to do about it.
    """

    file: str
    layer: str
    key: str
    problem: str
    cure: str

    def __str__(self) -> str:
        layer = f"[{self.layer}] " if self.layer else ""
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}: {layer}{key}{self.problem}. {self.cure}"


class SettingsError(MooringsError):
    """The settings cannot be used. All problems are reported at once, in `problems`."""

    def __init__(self, *problems: SettingsProblem) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class UnknownBackend(SettingsError, LookupError):
    """A `backend` that no provider is registered under; names the known ones and the nearest."""


class UnknownConnection(MooringsError, LookupError):
    """A connection name that the settings do not hold, or that they disable."""


class SecretUnavailable(MooringsError):
    """A reference of the settings leads to no usable secret. Tried again on every episode.

    Attributes:
        path: the reference's path.
        key: the reference's key.
    """

    def __init__(self, path: str, key: str, problem: str, cure: str) -> None:
        super().__init__(f"secret {key!r} at {path!r}: {problem}. {cure}")
        self.path = path
        self.key = key


class ConnectionNotReady(MooringsError):
    """The connection is not ready: not yet, not any more, not in time, or closed.

    Attributes:
        status: the `ConnectionStatus` when this was raised; None when no single connection is
            meant. Its `reason` and (redacted) `error` say why.
    """

    def __init__(self, message: str, status: ConnectionStatus | None = None) -> None:
        super().__init__(message)
        self.status = status


class HostMismatch(MooringsError):
    """Used from another thread, event loop or process than the one it was opened in."""


class IllegalTransition(MooringsError):
    """The state machine has no such edge. A bug in Moorings: it never reaches a caller."""


class RestartIntensityExceeded(MooringsError):
    """A supervisor gave up. `__cause__` is the child's last error.

    Attributes:
        supervisor: the supervisor's name.
        child: the id of the child whose end was one too many.
        restarts: how many restarts were counted within the period, this one included.
    """

    def __init__(self, supervisor: str, child: str, restarts: int) -> None:
        super().__init__(
            f"supervisor {supervisor!r} gave up: child {child!r} ended once more "
            f"({restarts} restarts within the period)"
        )
        self.supervisor = supervisor
        self.child = child
        self.restarts = restarts


class NotSupportedLocally(MooringsError, NotImplementedError):
    """The `local` backend cannot do this, and does nothing rather than something else.

    Attributes:
        call: the call, argument or operator that was refused.
    """

    def __init__(self, call: str, why: str = "") -> None:
        super().__init__(
            f"{call} is not supported by the in-memory backend"
            + (f" ({why})" if why else "")
            + '. Use a real server for it: backend = "mongo"'
        )
        self.call = call


class SupervisorError(MooringsError):
    """A supervisor refused a command."""


class ChildNotFound(SupervisorError, LookupError):
    """No child has this id."""


class ChildAlreadyStarted(SupervisorError):
    """A child with this id is running."""


class ChildAlreadyPresent(SupervisorError):
    """A child with this id is present, though not running: restart or delete it."""


class ChildRunning(SupervisorError):
    """The child is running: terminate it first."""


class ChildStartFailed(SupervisorError):
    """A child ended before it said `started`: `__cause__` is its error, if it raised one.

    Attributes:
        id: the child's id.
    """

    def __init__(self, id: str, *, stopped: bool = False) -> None:  # noqa: A002 - the spec's word
        why = "it was stopped" if stopped else "it ended"
        super().__init__(f"child {id!r} failed to start: {why} before it said `started`")
        self.id = id


LISTED, COMPARED = 50, 1000
"""How many names an error message lists, and up to how many it looks for the nearest."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that lists what is known and the nearest to `name`, for error messages."""
    names: Sequence[str] = sorted(known)
    if not names:
        return "None is known"
    more = len(names) - LISTED
    listed = ", ".join(names[:LISTED]) + (f" and {more:,} more" if more > 0 else "")
    near = difflib.get_close_matches(name, names, n=1) if len(names) <= COMPARED else []
    return f"Known: {listed}" + (f" (did you mean {near[0]!r}?)" if near else "")
