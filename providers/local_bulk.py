"""`bulk_write`: PyMongo's request objects, carried out one by one on our own operations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import NotSupportedLocally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .local_operations import Operations

# PyMongo's requests write themselves into a builder by these four names: the same interface that
# the engine (and every version of PyMongo since 3.0) relies on.


class Bulk:
    """A list of steps, recorded first, so that a bad request is refused before anything is done."""

    def __init__(self, operations: Operations, requests: Sequence[Any]) -> None:
        self._operations = operations
        self._steps: list[tuple[str, Callable[[], Any]]] = []
        for request in requests:
            request._add_to_bulk(self)  # noqa: SLF001 - see above

    def add_insert(self, document: Any) -> None:
        """Record an `InsertOne`."""
        self._steps.append(("insert", partial(self._operations.insert_one, document)))

    def add_update(
        self, selector: Any, doc: Any, multi: bool, upsert: bool, **options: Any
    ) -> None:
        """Record an `UpdateOne` or `UpdateMany`."""
        method: Callable[..., Any]
        method = self._operations.update_many if multi else self._operations.update_one
        allowed = {"array_filters"} if multi else {"array_filters", "sort"}
        given = _given("UpdateMany" if multi else "UpdateOne", allowed, options)
        self._steps.append(("update", partial(method, selector, doc, upsert=upsert, **given)))

    def add_replace(self, selector: Any, doc: Any, upsert: bool, **options: Any) -> None:
        """Record a `ReplaceOne`."""
        given = _given("ReplaceOne", {"sort"}, options)
        step = partial(self._operations.replace_one, selector, doc, bool(upsert), **given)
        self._steps.append(("update", step))

    def add_delete(self, selector: Any, limit: int, **options: Any) -> None:
        """Record a `DeleteOne` or `DeleteMany` (`limit` 0)."""
        _given("DeleteOne" if limit else "DeleteMany", set(), options)
        method = self._operations.delete_one if limit else self._operations.delete_many
        self._steps.append(("delete", partial(method, selector)))

    def execute(self, *, ordered: bool) -> Any:
        """Do the steps; `BulkWriteError` lists those that failed, the others stay done."""
        from mongomock_ng import BulkWriteError, InvalidOperation, WriteError  # noqa: PLC0415
        from mongomock_ng.results import BulkWriteResult  # noqa: PLC0415

        if not self._steps:
            raise InvalidOperation("No operations to execute")
        total = _nothing_done()
        for index, (kind, step) in enumerate(self._steps):
            try:
                _add(total, index, kind, step())
            except WriteError as error:
                total["writeErrors"].append(
                    {"index": index, "code": error.code, "errmsg": str(error)}
                )
                if ordered:
                    break
        if total["writeErrors"]:
            raise BulkWriteError(total)
        return BulkWriteResult(total, acknowledged=True)


def _given(request: str, allowed: set[str], options: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - allowed:
        raise NotSupportedLocally(f"{request}({name}=…)")
    return given


def _nothing_done() -> dict[str, Any]:
    counts = dict.fromkeys(("nInserted", "nMatched", "nModified", "nUpserted", "nRemoved"), 0)
    return {**counts, "upserted": [], "writeErrors": [], "writeConcernErrors": []}


def _add(total: dict[str, Any], index: int, kind: str, result: Any) -> None:
    match kind:
        case "insert":
            total["nInserted"] += 1
        case "delete":
            total["nRemoved"] += result.deleted_count
        case _ if result.upserted_id is not None:
            total["nUpserted"] += 1
            total["upserted"].append({"index": index, "_id": result.upserted_id})
        case _:
            total["nMatched"] += result.matched_count
            total["nModified"] += result.modified_count
