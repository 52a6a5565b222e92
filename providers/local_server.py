"""The in-memory server of one provider: its data, its faults, and the engine's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .local_faults import Faults


class EngineMissing(ImportError):
    """The package behind this backend, or the one behind that, is not installed."""


class LocalServer:
    """Holds the data as long as its provider lives, whoever opens and closes clients."""

    def __init__(self, faults: Faults) -> None:
        try:
            import mongomock_ng  # noqa: PLC0415 - imported when it is opened
        except (ImportError, AttributeError) as error:
            # mongomock-ng calls PyMongo optional, but 7.11 stumbles over its absence as it is
            # imported. Standing in for `bson` was rejected: ids, errors and checks of documents
            # would differ from a server's.
            raise EngineMissing(
                "the in-memory backend needs mongomock-ng and PyMongo: pip install pymongo"
            ) from error

        self.faults = faults
        # Never closed: closing the engine's client deletes the data.
        self.engine: Any = mongomock_ng.MongoClient()
        self._errors = mongomock_ng

    def invalid_operation(self, message: str) -> Exception:
        """PyMongo's `InvalidOperation`."""
        error: Exception = self._errors.InvalidOperation(message)
        return error

    def operation_failure(self, message: str, code: int) -> Exception:
        """PyMongo's `OperationFailure`."""
        error: Exception = self._errors.OperationFailure(message, code)
        return error
