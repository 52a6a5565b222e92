"""Making a long text without holding the loop up: a slice at a time, on either host."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from .hosts import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

SLICE = 0.002
"""How long making a text may hold the loop at a time, in seconds."""


async def joined(pieces: Iterable[str]) -> tuple[bytes, float]:
    """All pieces together, and for how many seconds making them has held the loop.

    A checkpoint only where it takes longer than `SLICE`.
    """
    parts: list[str] = []
    held, since = 0.0, perf_counter()
    for piece in pieces:
        parts.append(piece)
        if perf_counter() - since > SLICE:
            held += perf_counter() - since
            await checkpoint()
            since = perf_counter()
    body = "".join(parts).encode()
    return body, held + perf_counter() - since
