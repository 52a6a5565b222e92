"""Transactions over an engine that has no isolation: snapshot, work apart, first committer wins.

The engine's own roll back by restoring whole collections, which takes other tasks' writes along
and shows them uncommitted ones. Here a transaction works on a copy of the data, and its commit
carries over what it changed, unless somebody else changed the same documents meanwhile: then it
fails as a server's would, with `WriteConflict` (112) and the label `TransientTransactionError`.
The copy costs time and memory in proportion to all data: meant for development and tests.
"""

from __future__ import annotations

from typing import Any

WRITE_CONFLICT = 112

# By collection (database and name), then by a key that stands for the `_id`.
_Documents = dict[str, dict[str, Any]]
_Namespace = tuple[str, str]


class Transaction:
    """The copy that a transaction works on. Synchronous throughout: nothing comes between."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._base = {space: _documents(engine, space) for space in _namespaces(engine)}
        self.work = _copy(engine, self._base)

    def commit(self) -> None:
        """Carry the changes over, all or none.

        Raises:
            OperationFailure: another commit changed one of the same documents (code 112).
            DuplicateKeyError: a unique index does not allow what both have written.
        """
        changes = self._changes()
        now = {space: _documents(self._engine, space) for space in changes}
        for space, changed in changes.items():
            base = self._base.get(space, {})
            if any(now[space].get(key) != base.get(key) for key in changed):
                raise _conflict(space)
        # Tried on a copy first: only a unique index can object, and then nothing is carried over.
        trial = _copy(self._engine, now)
        for engine in (trial, self._engine):
            for space, changed in changes.items():
                _apply(engine[space[0]][space[1]], now[space], changed)

    def _changes(self) -> dict[_Namespace, dict[str, Any]]:
        changes = {}
        for space in {*self._base, *_namespaces(self.work)}:
            base, work = self._base.get(space, {}), _documents(self.work, space)
            keys = {*base, *work}
            changed = {key: work.get(key) for key in keys if base.get(key) != work.get(key)}
            if changed:
                changes[space] = changed
        return changes


def _namespaces(engine: Any) -> list[_Namespace]:
    return [
        (database, name)
        for database in engine.list_database_names()
        for name in engine[database].list_collection_names()
    ]


def _documents(engine: Any, space: _Namespace) -> _Documents:
    return {repr(doc["_id"]): doc for doc in engine[space[0]][space[1]].find()}


def _copy(engine: Any, contents: dict[_Namespace, _Documents]) -> Any:
    copy = type(engine)()
    for (database, name), documents in contents.items():
        target = copy[database][name]
        if documents:
            target.insert_many(documents.values())
        # After the documents: the engine checks a unique index against all of them per insert.
        for index, options in engine[database][name].index_information().items():
            if index != "_id_":
                kept = {key: value for key, value in options.items() if key != "v"}
                target.create_index(kept.pop("key"), name=index, **kept)
    return copy


def _apply(collection: Any, now: _Documents, changed: dict[str, Any]) -> None:
    # All out before the first goes in, so that two documents may swap a unique value.
    for key in changed:
        if key in now:
            collection.delete_one({"_id": now[key]["_id"]})
    for document in changed.values():
        if document is not None:
            collection.insert_one(document)


def _conflict(space: _Namespace) -> Exception:
    from mongomock_ng import OperationFailure  # noqa: PLC0415 - not before a client was opened

    error: Exception = OperationFailure(
        f"WriteConflict error: a document of {'.'.join(space)} was changed meanwhile. "
        "Please retry the transaction.",
        WRITE_CONFLICT,
        {"errorLabels": ["TransientTransactionError"]},
    )
    return error
