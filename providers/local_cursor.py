"""Cursors, in Motor's shapes: made at once, run at their first step."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

from ..errors import NotSupportedLocally
from . import local_host as host
from .local_rules import HARMLESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .local_collection import LocalCollection
    from .local_database import LocalClient
    from .local_session import LocalSession


class LocalCommandCursor:
    """The answer of `aggregate`, `list_indexes` and `list_collections`.

    Its first step is one call to the server and fetches everything; each step is a checkpoint.
    """

    def __init__(
        self,
        client: LocalClient,
        call: str,
        session: LocalSession | None,
        work: Callable[[Any], list[Any]],
    ) -> None:
        self._client = client
        self._call = call
        self.session = session
        self._work = work
        self._fetched: deque[Any] | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether there may be more."""
        return not self._closed and (self._fetched is None or bool(self._fetched))

    def batch_size(self, batch_size: int) -> Self:  # noqa: ARG002 - there are no batches
        """Accepted: all comes in one batch."""
        return self

    async def to_list(self, length: int | None = None) -> list[Any]:
        """The next `length` documents, fewer at the end; all that are left for None."""
        if length is not None and length < 0:
            raise ValueError("length must be non-negative")
        fetched = await self._step()
        count = len(fetched) if length is None else min(length, len(fetched))
        return [fetched.popleft() for _ in range(count)]

    async def next(self) -> Any:
        """The next document; `StopAsyncIteration` at the end."""
        fetched = await self._step()
        if not fetched:
            raise StopAsyncIteration
        return fetched.popleft()

    __anext__ = next  # noqa: A003 - the method above

    def __aiter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Forget what is left."""
        self._closed = True
        self._fetched = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _step(self) -> deque[Any]:
        if self._fetched is None:
            self._fetched = deque(await self._client.run(self._call, self.session, self._work))
        else:
            await host.checkpoint()
        return self._fetched


class LocalCursor(LocalCommandCursor):
    """The answer of `find`: chain `sort`, `skip`, `limit` before the first step."""

    def __init__(
        self,
        collection: LocalCollection,
        session: LocalSession | None,
        query: dict[str, Any],
    ) -> None:
        self.collection = collection
        self._query = query
        work = collection.work(lambda operations: operations.find(**self._query))
        super().__init__(collection.database.client, "find", session, work)

    def sort(self, key_or_list: Any, direction: Any = None) -> Self:
        """Order by a key, or by `(key, direction)` pairs."""
        if isinstance(key_or_list, str):
            key_or_list = [(key_or_list, 1 if direction is None else direction)]
        pairs = [(key, 1) if isinstance(key, str) else tuple(key) for key in _pairs(key_or_list)]
        if not pairs:
            raise ValueError("key_or_list must not be the empty list")
        return self._set(sort=pairs)

    def skip(self, skip: int) -> Self:
        """Leave out the first `skip` documents."""
        if skip < 0:
            raise ValueError("skip must be >= 0")
        return self._set(skip=skip)

    def limit(self, limit: int) -> Self:
        """At most `limit` documents; 0 for all."""
        return self._set(limit=limit)

    def comment(self, comment: Any) -> Self:  # noqa: ARG002 - nobody reads it
        """Accepted: there is no profiler."""
        return self

    def allow_disk_use(self, allow_disk_use: bool) -> Self:  # noqa: ARG002 - there is no disk
        """Accepted: there is no disk."""
        return self

    async def distinct(self, key: str) -> list[Any]:
        """The different values of `key` among all that the filter matches."""
        values: list[Any] = await self.collection.distinct(
            key, self._query.get("filter"), session=self.session
        )
        return values

    def clone(self) -> LocalCursor:
        """The same query, not yet run."""
        return LocalCursor(self.collection, self.session, dict(self._query))

    def rewind(self) -> Self:
        """Back to before the first step: the query runs again."""
        self._fetched = None
        self._closed = False
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _REFUSED:
            raise NotSupportedLocally(f"find().{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _set(self, **options: Any) -> Self:
        if self._fetched is not None:
            raise self._client.server.invalid_operation("cannot set options after executing query")
        self._query.update(options)
        return self


_REFUSED = frozenset(
    {
        "add_option",
        "collation",
        "cursor_id",
        "each",
        "explain",
        "fetch_next",
        "hint",
        "max",
        "max_await_time_ms",
        "max_time_ms",
        "min",
        "next_object",
        "remove_option",
        "where",
    }
)
assert not _REFUSED & HARMLESS  # noqa: S101 - a name cannot be both


def _pairs(keys: Any) -> Any:
    return keys.items() if hasattr(keys, "items") else keys
