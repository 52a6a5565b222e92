"""Exit statuses, after BSD's sysexits.h."""

from __future__ import annotations

from enum import IntEnum

from ..errors import ConnectionNotReady, FailureReason, RestartIntensityExceeded, SettingsError


class ExitStatus(IntEnum):
    """What the process's end says."""

    OK = 0
    FAILED = 1
    """The program's own function raised."""
    USAGE = 64
    NO_HOST = 68
    """A server's name cannot be resolved."""
    UNAVAILABLE = 69
    SOFTWARE = 70
    """A bug escalated, or something did not stop in time."""
    IO_ERROR = 74
    """What a command prints cannot be written."""
    NO_PERMISSION = 77
    """The server refuses the credentials."""
    CONFIG = 78
    """Settings or secrets cannot be used."""


_OF_REASON = {
    FailureReason.DNS: ExitStatus.NO_HOST,
    FailureReason.AUTH: ExitStatus.NO_PERMISSION,
    FailureReason.CONFIG: ExitStatus.CONFIG,
    FailureReason.SECRET: ExitStatus.CONFIG,
    FailureReason.BUG: ExitStatus.SOFTWARE,
}


def status_of_reason(reason: FailureReason | None) -> ExitStatus:
    """The status for a connection that is not ready for `reason`."""
    return ExitStatus.UNAVAILABLE if reason is None else _OF_REASON.get(reason, _UNAVAILABLE)


_UNAVAILABLE = ExitStatus.UNAVAILABLE


def status_of(error: BaseException) -> ExitStatus:
    """The status for an error that ended the program."""
    match error:
        case SettingsError():
            return ExitStatus.CONFIG
        case ConnectionNotReady(status=status):
            return status_of_reason(status.reason if status else None)
        case RestartIntensityExceeded():
            return ExitStatus.SOFTWARE
        case _:
            return ExitStatus.FAILED
