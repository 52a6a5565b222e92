"""What the in-memory engine would silently get wrong, and is therefore refused or rewritten.

Each entry stands for something that was tried against the engine (mongomock-ng 7.11) and came out
different from a server: ignored, misread, or (`$where`) run through Python's own `eval`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import NotSupportedLocally

# Arguments that cannot change a result here: there are no batches to size, no disk to spill to, no
# profiler to comment in, no validator to bypass, and one member that always has the majority.
HARMLESS = frozenset(
    {
        "allowDiskUse",
        "allow_disk_use",
        "batchSize",
        "batch_size",
        "bypass_document_validation",
        "comment",
        "no_cursor_timeout",
        "read_concern",
        "read_preference",
        "write_concern",
    }
)

_OPERATORS = {
    "$where": "it needs a JavaScript engine",
    "$function": "it needs a JavaScript engine",
    "$accumulator": "it needs a JavaScript engine",
    "$text": "there is no text search",
    "$search": "there is no text search",
    "$jsonSchema": "schemas are not checked",
    "$out": "write the result yourself",
    "$merge": "write the result yourself",
}
_UPDATERS = frozenset(
    {
        "$addToSet",
        "$bit",
        "$currentDate",
        "$inc",
        "$max",
        "$min",
        "$pop",
        "$pull",
        "$pullAll",
        "$push",
        "$rename",
        "$set",
        "$setOnInsert",
        "$unset",
    }
)


def acceptable(call: str, accepted: frozenset[str], given: dict[str, Any]) -> dict[str, Any]:
    """`given` without what is harmless; refuses what the call does not know, unless it is None."""
    kept = {}
    for name, value in given.items():
        if name in accepted:
            kept[name] = value
        elif name not in HARMLESS and value is not None:
            raise NotSupportedLocally(f"{call}({name}=…)")
    return kept


def check_operators(call: str, value: object) -> None:
    """Refuse operators, at any depth, that the engine has not or has wrongly."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _OPERATORS:
                raise NotSupportedLocally(f"{call}: {key}", _OPERATORS[key])
            check_operators(call, inner)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for inner in value:
            check_operators(call, inner)


def checked_update(call: str, filter: Any, update: Any, *, upsert: bool) -> Any:  # noqa: A002 - PyMongo's name
    """`update` as the engine may have it."""
    check_operators(call, filter)
    if upsert and isinstance(filter, Mapping) and "$and" in filter:
        raise NotSupportedLocally(f"{call}: upsert with $and", "its fields would be lost")
    if not isinstance(update, Mapping):
        check_operators(call, update)
        return update
    for operator in update:
        if operator.startswith("$") and operator not in _UPDATERS:
            raise NotSupportedLocally(f"{call}: {operator}")
    return _with_current_dates(call, update)


def _with_current_dates(call: str, update: Mapping[str, Any]) -> Mapping[str, Any]:
    # The engine writes an aware datetime with microseconds; a server stores neither.
    if "$currentDate" not in update:
        return update
    dates = {}
    for field, kind in update["$currentDate"].items():
        if kind is not True and kind != {"$type": "date"}:
            raise NotSupportedLocally(f"{call}: $currentDate with {kind!r}")
        dates[field] = _now()
    rest = {key: value for key, value in update.items() if key != "$currentDate"}
    return {**rest, "$set": {**rest.get("$set", {}), **dates}}


def _now() -> dt.datetime:
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
