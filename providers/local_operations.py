"""The operations of a collection, synchronous: each a thin, strict layer over one engine call.

A signature here is the whitelist of its call: what it does not name is refused before the engine
could ignore it. An operation that fails leaves the documents as they were; the engine alone would
leave half an update behind, since it applies updates to the stored document itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import NotSupportedLocally
from .local_bulk import Bulk
from .local_rules import acceptable, check_operators, checked_update

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_INDEX_OPTIONS = frozenset(
    {"background", "expireAfterSeconds", "name", "partialFilterExpression", "sparse", "unique"}
)
_INDEX_KINDS = frozenset({1, -1, "2dsphere", "hashed"})

# PyMongo's parameter names, shadowing and all, are what callers write.
# ruff: noqa: A001, A002, FBT002


class Operations:
    """One engine collection. Signatures are PyMongo's, less what cannot be done here."""

    def __init__(self, collection: Any) -> None:
        self._engine = collection

    # -- reading

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        projection: Any = None,
        skip: int = 0,
        limit: int = 0,
        *,
        sort: Any = None,
    ) -> list[dict[str, Any]]:
        """All that match, as copies."""
        check_operators("find", filter)
        found = self._engine.find(filter, projection, skip=skip, limit=limit, sort=sort)
        return list(found)

    def find_one(
        self, filter: Any = None, projection: Any = None, skip: int = 0, *, sort: Any = None
    ) -> dict[str, Any] | None:
        """The first that matches (a bare value stands for an `_id`), or None."""
        if filter is not None and not hasattr(filter, "keys"):
            filter = {"_id": filter}
        found = self.find(filter, projection, skip, 1, sort=sort)
        return found[0] if found else None

    def count_documents(self, filter: Mapping[str, Any], *, skip: int = 0, limit: int = 0) -> int:
        """How many match."""
        check_operators("count_documents", filter)
        bounds = {"limit": limit} if limit else {}
        return int(self._engine.count_documents(filter, skip=skip, **bounds))

    def estimated_document_count(self) -> int:
        """How many there are."""
        return int(self._engine.estimated_document_count())

    def distinct(self, key: str, filter: Mapping[str, Any] | None = None) -> list[Any]:
        """The different values of `key`."""
        check_operators("distinct", filter)
        return list(self._engine.distinct(key, filter))

    def aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the pipeline makes of the collection."""
        check_operators("aggregate", pipeline)
        return list(self._engine.aggregate(pipeline))

    # -- writing

    def insert_one(self, document: Any) -> Any:
        """Insert; an `_id` is added to `document` itself where there is none."""
        _check_id("insert_one", document)
        return self._engine.insert_one(document)

    def insert_many(self, documents: Any, ordered: bool = True) -> Any:
        """Insert each, up to the first failure where `ordered`."""
        documents = list(documents)
        for document in documents:
            _check_id("insert_many", document)
        return self._engine.insert_many(documents, ordered=ordered)

    def update_one(
        self,
        filter: Mapping[str, Any],
        update: Any,
        upsert: bool = False,
        *,
        array_filters: Any = None,
        sort: Any = None,
    ) -> Any:
        """Update the first that matches."""
        update = checked_update("update_one", filter, update, upsert=upsert)
        with self._whole(filter):
            return self._engine.update_one(
                filter, update, upsert=upsert, array_filters=array_filters, sort=sort
            )

    def update_many(
        self,
        filter: Mapping[str, Any],
        update: Any,
        upsert: bool = False,
        array_filters: Any = None,
    ) -> Any:
        """Update all that match; where one fails, none (a server keeps those before it)."""
        update = checked_update("update_many", filter, update, upsert=upsert)
        with self._whole(filter):
            return self._engine.update_many(
                filter, update, upsert=upsert, array_filters=array_filters
            )

    def replace_one(
        self,
        filter: Mapping[str, Any],
        replacement: Mapping[str, Any],
        upsert: bool = False,
        *,
        sort: Any = None,
    ) -> Any:
        """Replace the first that matches."""
        check_operators("replace_one", filter)
        with self._whole(filter):
            return self._engine.replace_one(filter, replacement, upsert=upsert, sort=sort)

    def delete_one(self, filter: Mapping[str, Any]) -> Any:
        """Delete the first that matches."""
        check_operators("delete_one", filter)
        return self._engine.delete_one(filter)

    def delete_many(self, filter: Mapping[str, Any]) -> Any:
        """Delete all that match."""
        check_operators("delete_many", filter)
        return self._engine.delete_many(filter)

    def bulk_write(self, requests: Sequence[Any], ordered: bool = True) -> Any:
        """Do each request, up to the first failure where `ordered`."""
        return Bulk(self, requests).execute(ordered=ordered)

    # The engine's own find_one_and_… forget the filter once they have found the document, so that
    # a positional `$` hits the wrong element, and swallow unknown arguments: composed here instead.

    def find_one_and_delete(
        self, filter: Mapping[str, Any], projection: Any = None, sort: Any = None
    ) -> dict[str, Any] | None:
        """Delete the first that matches, and return it."""
        found = self.find_one(filter, projection={"_id": 1}, sort=sort)
        if found is None:
            return None
        before = self.find_one(found["_id"], projection)
        self._engine.delete_one({"_id": found["_id"]})
        return before

    def find_one_and_replace(
        self,
        filter: Mapping[str, Any],
        replacement: Mapping[str, Any],
        projection: Any = None,
        sort: Any = None,
        upsert: bool = False,
        return_document: bool = False,
    ) -> dict[str, Any] | None:
        """Replace the first that matches; return it as it was, or (True) as it is."""
        return self._find_and_modify(
            filter, projection, sort, return_document, self.replace_one, replacement, upsert=upsert
        )

    def find_one_and_update(
        self,
        filter: Mapping[str, Any],
        update: Any,
        projection: Any = None,
        sort: Any = None,
        upsert: bool = False,
        return_document: bool = False,
        array_filters: Any = None,
    ) -> dict[str, Any] | None:
        """Update the first that matches; return it as it was, or (True) as it is."""

        def change(which: Mapping[str, Any], update: Any, *, upsert: bool) -> Any:
            return self.update_one(which, update, upsert=upsert, array_filters=array_filters)

        return self._find_and_modify(
            filter, projection, sort, return_document, change, update, upsert=upsert
        )

    def _find_and_modify(
        self,
        filter: Mapping[str, Any],
        projection: Any,
        sort: Any,
        after: bool,
        change: Any,
        value: Any,
        *,
        upsert: bool,
    ) -> dict[str, Any] | None:
        found = self.find_one(filter, projection={"_id": 1}, sort=sort)
        if found is None:
            upserted = change(filter, value, upsert=upsert).upserted_id
            return self.find_one({"_id": upserted}, projection) if upsert and after else None
        key = {"_id": found["_id"]}
        before = self.find_one(key, projection)
        change({**filter, **key}, value, upsert=False)
        return self.find_one(key, projection) if after else before

    # -- indexes and the collection itself

    def create_index(self, /, keys: Any, **options: Any) -> str:
        """Create an index, which matters where it is unique or expires documents."""
        options = acceptable("create_index", _INDEX_OPTIONS, options)
        for kind in [1] if isinstance(keys, str) else [pair[1] for pair in keys]:
            if kind not in _INDEX_KINDS:
                raise NotSupportedLocally(f"create_index: {kind!r}")
        if options.get("unique") and options.get("partialFilterExpression") is not None:
            # The engine would apply it to documents that the expression leaves out.
            raise NotSupportedLocally("create_index(unique=True, partialFilterExpression=…)")
        options.pop("background", None)
        return str(self._engine.create_index(keys, **options))

    def create_indexes(self, indexes: Sequence[Any]) -> list[str]:
        """Create indexes from PyMongo's `IndexModel`s."""
        documents = [dict(model.document) for model in indexes]
        return [self.create_index(list(doc.pop("key").items()), **doc) for doc in documents]

    def drop_index(self, index_or_name: Any) -> None:
        """Drop one index."""
        self._engine.drop_index(index_or_name)

    def drop_indexes(self) -> None:
        """Drop all but that of `_id`. One by one: the engine's own forgets expiring ones."""
        for name in self._engine.index_information():
            if name != "_id_":
                self._engine.drop_index(name)

    def index_information(self) -> dict[str, Any]:
        """The indexes by name."""
        return dict(self._engine.index_information())

    def list_indexes(self) -> list[dict[str, Any]]:
        """The indexes' descriptions."""
        return list(self._engine.list_indexes())

    def drop(self) -> None:
        """Drop the collection with its indexes."""
        self._engine.drop()

    def rename(self, new_name: str, *, dropTarget: bool = False) -> Any:  # noqa: N803
        """Rename the collection."""
        return self._engine.rename(new_name, dropTarget=dropTarget)

    def options(self) -> dict[str, Any]:
        """The options it was created with."""
        return dict(self._engine.options())

    @contextmanager
    def _whole(self, filter: Mapping[str, Any]) -> Iterator[None]:
        before = list(self._engine.find(filter))
        try:
            yield
        except Exception:
            for document in before:
                self._engine.replace_one({"_id": document["_id"]}, document)
            raise


def _check_id(call: str, document: Any) -> None:
    # The engine takes such a document in, and then cannot update it.
    if hasattr(document, "keys") and hasattr(document.get("_id"), "keys"):
        raise NotSupportedLocally(f"{call}: a document as _id")
