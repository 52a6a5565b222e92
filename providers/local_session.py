"""Sessions, in Motor's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .local_rules import acceptable
from .local_transaction import WRITE_CONFLICT, Transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from .local_database import LocalClient


class LocalSession:
    """A session of one client: a place for a transaction. Made by `client.start_session()`."""

    def __init__(self, client: LocalClient) -> None:
        self.client = client
        self.in_transaction = False
        self.has_ended = False
        self._transaction: Transaction | None = None

    def start_transaction(self, **options: Any) -> _TransactionScope:
        """Begin; use the answer with `async with` to commit, or to roll back on an error.

        The data is copied at the first operation: reads see one moment, others see nothing before
        the commit.
        """
        acceptable("start_transaction", frozenset(), options)
        self.check()
        if self.in_transaction:
            raise self._misused("Transaction already in progress")
        self.in_transaction = True
        return _TransactionScope(self)

    async def commit_transaction(self) -> None:
        """Make the changes visible, all at once.

        Cancelled or failed, it has changed nothing.

        Raises:
            OperationFailure: code 112, label `TransientTransactionError`: another transaction was
                faster. Begin again, or let `with_transaction` do it.
        """
        await self.client.run("commit_transaction", self, lambda _: self._commit())

    async def abort_transaction(self) -> None:
        """Forget the changes."""
        await self.client.run("abort_transaction", self, lambda _: self._abort())

    async def with_transaction(
        self, callback: Callable[[LocalSession], Awaitable[Any]], **options: Any
    ) -> Any:
        """Run `callback(session)` in a transaction, again after each conflict.

        A conflict means that somebody else's commit went through, so this makes progress however
        often it is repeated; bound it from outside where that is not enough.
        """
        while True:
            try:
                async with self.start_transaction(**options):
                    return await callback(self)
            except Exception as error:
                if getattr(error, "code", None) != WRITE_CONFLICT:
                    raise

    async def end_session(self) -> None:
        """End it, and with it a transaction that is still open. Makes no call to the server."""
        self.discard()
        self.has_ended = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end_session()

    def engine(self, shared: Any) -> Any:
        """What this session's operations work on: the shared data, or the transaction's copy."""
        if not self.in_transaction:
            return shared
        if self._transaction is None:
            self._transaction = Transaction(shared)
        return self._transaction.work

    def discard(self) -> None:
        """Forget the transaction. Synchronous, so that cancellation cannot prevent it."""
        self.in_transaction = False
        self._transaction = None

    def check(self) -> None:
        """Raise unless the session may be used."""
        if self.has_ended:
            raise self._misused("Cannot use ended session")

    def _commit(self) -> None:
        if not self.in_transaction:
            raise self._misused("No transaction started")
        try:
            if self._transaction is not None:
                self._transaction.commit()
        finally:
            self.discard()

    def _abort(self) -> None:
        if not self.in_transaction:
            raise self._misused("No transaction started")
        self.discard()

    def _misused(self, message: str) -> Exception:
        return self.client.server.invalid_operation(message)


class _TransactionScope:
    def __init__(self, session: LocalSession) -> None:
        self._session = session

    async def __aenter__(self) -> LocalSession:
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._session.in_transaction:  # committed or aborted by hand
            return
        if kind is None:
            await self._session.commit_transaction()
        else:
            self._session.discard()
