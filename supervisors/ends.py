"""Ends of children: whose they are, and those whose consequences wait."""

from __future__ import annotations

from typing import Self

import trio


class End:
    """An end whose consequences wait for their turn (where children share their fate)."""

    __slots__ = ("error", "is_retry", "reason")

    def __init__(
        self, reason: str | None, error: BaseException | None, *, is_retry: bool = False
    ) -> None:
        self.reason = reason  # of the restart, as in `ChildRestarting`; None: there is none
        self.error = error
        self.is_retry = is_retry  # in a restart of its group, which goes on


class StrayCancelled(RuntimeError):
    """A child ended with a `Cancelled` that nobody had sent it: its `__cause__`.

    One from a scope that it left open, or one that was kept and raised anew. In a plain nursery it
    would end all the others, and nobody would hear of an error.
    """

    @classmethod
    def made_of(cls, error: BaseException) -> Self:
        """One whose cause is `error`."""
        stray = cls("cancelled, though nobody had cancelled it")
        stray.__cause__ = error
        return stray


def without_cancelled(error: BaseException) -> BaseException | None:
    """What is left of an error without any `Cancelled`; None: nothing."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error
