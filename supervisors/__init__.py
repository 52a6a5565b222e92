"""Supervisors restart: OTP-grade supervision of any async function; knows no databases."""

# Public on its own, so its names stand here; the other folders' names stand in `moorings`.
from ..errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRunning,
    ChildStartFailed,
    RestartIntensityExceeded,
    SupervisorError,
)
from .backoff import Backoff
from .opening import open_supervisor
from .spec import (
    AutoShutdown,
    ChildCounts,
    ChildEnded,
    ChildInfo,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    ChildState,
    ChildUnstopped,
    Escalated,
    Restart,
    ShuttingDown,
    Strategy,
    SupervisorEvent,
    TaskStatus,
)
from .supervisor import Supervisor

__all__ = [
    "AutoShutdown",
    "Backoff",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildEnded",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "ChildState",
    "ChildUnstopped",
    "Escalated",
    "Restart",
    "RestartIntensityExceeded",
    "ShuttingDown",
    "Strategy",
    "Supervisor",
    "SupervisorError",
    "SupervisorEvent",
    "TaskStatus",
    "open_supervisor",
]
