"""The in-memory server of one provider: its data, its faults, and the engine's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .local_faults import Faults


class LocalServer:
    """Holds the data as long as its provider lives, whoever opens and closes clients."""

    def __init__(self, faults: Faults) -> None:
        # The one import of the engine that is not inside a call: here is where it is opened.
        import mongomock_ng  # noqa: PLC0415

        self.faults = faults
        # Never closed: closing the engine's client deletes the data.
        self.engine: Any = mongomock_ng.MongoClient()
        self._errors = mongomock_ng

    def invalid_operation(self, message: str) -> Exception:
        """PyMongo's `InvalidOperation`, or the engine's stand-in where PyMongo is not installed."""
        error: Exception = self._errors.InvalidOperation(message)
        return error

    def operation_failure(self, message: str, code: int) -> Exception:
        """PyMongo's `OperationFailure`, or the engine's stand-in."""
        error: Exception = self._errors.OperationFailure(message, code)
        return error
