"""Motor, native to trio: `TrioMotorClient` and all that hangs on it.

The classes are made by Motor from its own framework-agnostic core (as `motor_asyncio` and
`motor_tornado` are), so their API is Motor's. Every call is awaitable in trio and cancellable:
cancelling frees the waiting task at once, while the driver's thread, and the server, go on with
what they have begun. A change stream or a tailable cursor holds one of the client's threads while
it waits. Where Motor would block the event loop, the functions below do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motor import core, motor_gridfs
from motor.metaprogramming import create_class_with_framework

from . import trio_framework

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "TrioMotorChangeStream",
    "TrioMotorClient",
    "TrioMotorClientEncryption",
    "TrioMotorClientSession",
    "TrioMotorCollection",
    "TrioMotorCommandCursor",
    "TrioMotorCursor",
    "TrioMotorDatabase",
    "TrioMotorGridFSBucket",
    "TrioMotorGridIn",
    "TrioMotorGridOut",
    "TrioMotorGridOutCursor",
    "TrioMotorLatentCommandCursor",
]


def _made(cls: type[Any]) -> Any:
    return create_class_with_framework(cls, trio_framework, __name__)


TrioMotorChangeStream = _made(core.AgnosticChangeStream)
TrioMotorClientEncryption = _made(core.AgnosticClientEncryption)
TrioMotorLatentCommandCursor = _made(core.AgnosticLatentCommandCursor)

# For type checkers they are Motor's own classes, from which the real ones are derived.
if TYPE_CHECKING:
    from motor.core import AgnosticClient as TrioMotorClient
    from motor.core import AgnosticClientSession as TrioMotorClientSession
    from motor.core import AgnosticCollection as TrioMotorCollection
    from motor.core import AgnosticCommandCursor as TrioMotorCommandCursor
    from motor.core import AgnosticCursor as TrioMotorCursor
    from motor.core import AgnosticDatabase as TrioMotorDatabase
    from motor.motor_gridfs import AgnosticGridFSBucket as TrioMotorGridFSBucket
    from motor.motor_gridfs import AgnosticGridIn as TrioMotorGridIn
    from motor.motor_gridfs import AgnosticGridOut as TrioMotorGridOut
    from motor.motor_gridfs import AgnosticGridOutCursor as TrioMotorGridOutCursor
else:
    TrioMotorClient = _made(core.AgnosticClient)
    TrioMotorClientSession = _made(core.AgnosticClientSession)
    TrioMotorCollection = _made(core.AgnosticCollection)
    TrioMotorCommandCursor = _made(core.AgnosticCommandCursor)
    TrioMotorCursor = _made(core.AgnosticCursor)
    TrioMotorDatabase = _made(core.AgnosticDatabase)
    TrioMotorGridFSBucket = _made(motor_gridfs.AgnosticGridFSBucket)
    TrioMotorGridIn = _made(motor_gridfs.AgnosticGridIn)
    TrioMotorGridOut = _made(motor_gridfs.AgnosticGridOut)
    TrioMotorGridOutCursor = _made(motor_gridfs.AgnosticGridOutCursor)


async def _leave_session(
    self: Any,
    exc_type: type[BaseException] | None,
    exc: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """End the session, in a thread when that means to talk to the server.

    Motor does it in the loop's thread, although it aborts an open transaction: with a frozen
    server the whole loop would stand still.
    """
    del exc_type, exc, traceback
    if self.in_transaction:
        await self.end_session()
    else:
        self.delegate.end_session()


async def _next_file(self: Any) -> Any:
    """The next file of a GridFS listing. Motor gives PyMongo's object, whose reads block."""
    found = await core.AgnosticCursor.next(self)
    return TrioMotorGridOut(self.collection, delegate=found)


# Set on the classes that Motor made for us: its core looks them up in a cache of its own, so that
# a subclass would never be used.
for _cls, _name, _method in (
    (TrioMotorClientSession, "__aexit__", _leave_session),
    (TrioMotorGridOutCursor, "next", _next_file),
    (TrioMotorGridOutCursor, "__anext__", _next_file),
):
    setattr(_cls, _name, _method)
del _cls, _name, _method
