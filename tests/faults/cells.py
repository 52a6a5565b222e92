"""The table: every fault in every state of a connection, and what has to be true of it.

Faults that look the same from where the connection stands share their row of expectations;
`python -m tests.faults` writes the table out, as docs/faults.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .vocabulary import (
    ATTEMPTS,
    BACKOFF_MAX,
    FAILURES,
    HOOK_TIMEOUT,
    INTERVAL,
    RETRY_MAX,
    TIMEOUT,
    At,
    Cell,
    Count,
    Fault,
    Handle,
    Place,
    Step,
    World,
    at_least,
    between,
    enters,
    exactly,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SLACK: Final = 2.0
"""Seconds that a machine with two busy cores may add to any bound."""

PUSHED: Final = SLACK
"""The driver says so within milliseconds; `make bench-faults` measures them."""
UNSEEN: Final = INTERVAL * 1.1 + FAILURES * TIMEOUT + SLACK
"""What no driver's event tells of: the contract's bound for proof of life."""
EPISODE: Final = (ATTEMPTS + 1) * TIMEOUT + RETRY_MAX + SLACK
"""A whole episode of attempts; the one that was under way included."""
HOOKED: Final = HOOK_TIMEOUT + EPISODE
"""The same, after a hook that hangs to its bound."""
BACKOFF: Final = BACKOFF_MAX + SLACK
"""The long backoff, whole."""
BACK: Final = BACKOFF_MAX + EPISODE
"""From a server's return to `ready`: an attempt that began before, a backoff, and another."""
ELECTION: Final = 2 * (3.0 * 1.15 + 2.0 + 1.0) + EPISODE
"""Two rounds, since the first may have no winner: the set's election timeout and its spread, the
heartbeat timeout for which a candidate waits for a silent primary's vote, the election."""

BOUNDS: Final = {
    "pushed": (PUSHED, "the driver says so at once"),
    "unseen": (UNSEEN, "no driver's event: 1.1 intervals and a timeout for each miss"),
    "episode": (EPISODE, "attempts, each within its timeout, and the retry delay between them"),
    "hooked": (HOOKED, "the same after a hook that hangs until `hook_timeout`"),
    "backoff": (BACKOFF, "the long backoff"),
    "back": (BACK, "an attempt under way, a long backoff, an episode"),
    "election": (
        ELECTION,
        "the set's election timeout, its heartbeat timeout, an election, an episode",
    ),
}
"""What each number is, all of them with two seconds for a busy machine."""

NONE: Final = exactly(0)
MISSED: Final = between(1, FAILURES)
"""Missed pings until a connection is lost; a driver's event may come before the last of them."""

FAULTS: Final = (
    Fault("refuse", Place.NETWORK, "Connections are reset, newcomers are refused."),
    Fault("cut", Place.NETWORK, "Connections are reset, newcomers are served.", passing=True),
    Fault("blackhole", Place.NETWORK, "Nothing passes; nothing is closed or refused."),
    Fault("delay", Place.NETWORK, "Every reply is three ping timeouts late."),
    Fault("slow", Place.NETWORK, "Every reply is a tenth of the ping timeout late."),
    Fault("throttle", Place.NETWORK, "64 bytes a second: an answer takes longer than it may."),
    Fault(
        "half-open",
        Place.NETWORK,
        "The server's side of the connections ends unsaid; newcomers are served.",
        passing=True,
    ),
    Fault("corrupt", Place.NETWORK, "Every bit that the server says is flipped."),
    Fault("corrupt bodies", Place.NETWORK, "The same, but for the length of its messages."),
    Fault("SIGKILL", Place.SERVER, "The server dies at once, and is started again."),
    Fault("SIGSTOP", Place.SERVER, "The server freezes with its sockets open, and goes on."),
    Fault("step-down", Place.SET, "The primary hands over to another.", passing=True),
    Fault("death of the primary", Place.SET, "The primary is killed; the others elect another."),
    Fault(
        "isolation of the primary",
        Place.SET,
        "Nobody reaches the primary, neither its set nor we; the others elect another.",
    ),
    Fault("partition", Place.SET, "Nobody reaches anybody, until it heals."),
)

BY_NAME: Final = {fault.name: fault for fault in FAULTS}

BACK_AGAIN: Final = (enters("connecting", BACKOFF), enters("ready", BACK))
"""How a connection that has given up comes back."""
CAME_UP: Final = {"established": exactly(1), "attempts": exactly(1)}
GAVE_UP: Final = {
    **CAME_UP,
    "given up": at_least(1),
    "retried": at_least(1),
    "failed attempts": at_least(ATTEMPTS),
}
LOST: Final = {"lost": exactly(1)}

ELSEWHERE: Final = (World.TRIO, World.ASYNCIO, World.PYMONGO)
"""Where a connection that is ready is tried; in its other states on trio alone."""


def gone(
    name: str, *, lost: str, given_up: str, seen: float, misses: Count = NONE
) -> Iterator[Cell]:
    """A server that cannot be used until the fault is over.

    Args:
        name: the fault's.
        lost: the reason for leaving `ready`; several with blanks between them.
        given_up: the reason for giving up, likewise.
        seen: how long a connection that is `ready` may take to notice, in seconds.
        misses: how many of its pings fail until then.
    """
    fault, fails = BY_NAME[name], given_up.split()
    lost_then = (
        enters("connecting", seen, *lost.split()),
        enters("failed", seen + EPISODE, *fails),
    )
    moved = {**LOST, **GAVE_UP, "failed pings": misses}
    yield Cell(
        fault,
        At.STARTING,
        (enters("connecting", SLACK), enters("failed", EPISODE, *fails)),
        BACK_AGAIN,
        GAVE_UP,
    )
    yield Cell(fault, At.CONNECTING, (enters("failed", HOOKED, *fails),), BACK_AGAIN, GAVE_UP)
    yield Cell(fault, At.READY, lost_then, BACK_AGAIN, moved, worlds=ELSEWHERE)
    yield Cell(
        fault,
        At.FAILED,
        (enters("connecting", BACKOFF), enters("failed", BACKOFF + EPISODE, *fails)),
        BACK_AGAIN,
        {**GAVE_UP, "retried": at_least(2)},
    )
    # The second client's hook may hang longer than its closing may take.
    yield Cell(
        fault,
        At.REPLACING,
        lost_then,
        BACK_AGAIN,
        {**moved, "closed late": between(0, 1)},
    )


def passing(
    name: str,
    *,
    lost: str,
    seen: float,
    back: float,
    misses: Count = NONE,
    replaced: Handle = Handle.NEW,
    after: bool = False,
) -> Iterator[Cell]:
    """A server, or another one, that is there again before an episode is over.

    Args:
        name: the fault's.
        lost: the reason for leaving `ready`; several with blanks between them.
        seen: how long a connection that is `ready` may take to notice, in seconds.
        back: how long it may take until it is `ready` again, in seconds.
        misses: how many of its pings fail until then.
        replaced: what becomes of `restart()`.
        after: it is ready only once the fault is over.
    """
    fault, ready = BY_NAME[name], enters("ready", back)
    connects = {**CAME_UP, "failed attempts": at_least(0)}
    leaves = enters("connecting", seen, *lost.split())

    def split(*first: Step) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        return (first, (ready,)) if after else ((*first, ready), ())

    if not fault.passing:
        yield Cell(fault, At.STARTING, *split(enters("connecting", SLACK)), connects)
    yield Cell(fault, At.CONNECTING, *split(), connects)
    yield Cell(
        fault,
        At.READY,
        *split(leaves),
        {**LOST, **connects, "failed pings": misses},
        worlds=ELSEWHERE,
    )
    yield Cell(
        fault, At.FAILED, *split(enters("connecting", BACKOFF)), {**connects, "retried": exactly(1)}
    )
    yield Cell(
        fault,
        At.REPLACING,
        *split(leaves),
        {**LOST, **connects, "failed pings": misses, "closed late": between(0, 1)},
        replaced,
    )


def harmless(
    name: str, *, misses: Count = NONE, connects: Count = NONE, replaced: Handle = Handle.NEW
) -> Iterator[Cell]:
    """What a connection that is ready lives through without leaving it.

    Args:
        name: the fault's.
        misses: how many pings fail.
        connects: how many attempts fail of a connection that is not ready.
        replaced: what becomes of `restart()`.
    """
    fault, failing = BY_NAME[name], {**CAME_UP, "failed attempts": connects}
    comes = (enters("connecting", SLACK), enters("ready", EPISODE))
    if not fault.passing:
        yield Cell(fault, At.STARTING, comes, (), failing)
    yield Cell(fault, At.CONNECTING, (enters("ready", HOOKED),), (), failing)
    yield Cell(fault, At.READY, (), (), {"failed pings": misses}, worlds=ELSEWHERE)
    yield Cell(
        fault,
        At.FAILED,
        (enters("connecting", BACKOFF), enters("ready", BACK)),
        (),
        {**failing, "retried": exactly(1)},
    )
    yield Cell(
        fault,
        At.REPLACING,
        (),
        (),
        {"failed pings": misses, "closed late": between(0, 1)},
        replaced,
    )


CELLS: Final = (
    *gone("refuse", lost="network", given_up="refused timeout", seen=PUSHED),
    *passing("cut", lost="network", seen=PUSHED, back=EPISODE),
    *gone("blackhole", lost="timeout", given_up="timeout", seen=UNSEEN, misses=MISSED),
    *gone("delay", lost="timeout", given_up="timeout", seen=UNSEEN, misses=MISSED),
    *harmless("slow", connects=between(0, ATTEMPTS)),  # to log in takes several replies
    *gone("throttle", lost="timeout", given_up="timeout", seen=UNSEEN, misses=MISSED),
    *harmless("half-open", misses=between(0, 1), connects=between(0, 1), replaced=Handle.SAME),
    *(
        cell
        for name in ("corrupt", "corrupt bodies")
        # A heartbeat may meet it before a ping does.
        for cell in gone(
            name,
            lost="network",
            given_up="network timeout",
            seen=UNSEEN,
            misses=between(0, FAILURES),
        )
    ),
    *gone("SIGKILL", lost="network", given_up="refused timeout", seen=PUSHED),
    *gone("SIGSTOP", lost="timeout", given_up="timeout", seen=UNSEEN, misses=MISSED),
    *passing("step-down", lost="network", seen=PUSHED, back=ELECTION, replaced=Handle.EITHER),
    *passing(
        "death of the primary",
        lost="network",
        seen=PUSHED,
        back=ELECTION,
        replaced=Handle.SAME,
    ),
    *passing(
        "isolation of the primary",
        lost="timeout",
        seen=UNSEEN,
        back=ELECTION,
        misses=MISSED,
        replaced=Handle.SAME,
    ),
    *passing(
        "partition",
        lost="timeout",
        seen=UNSEEN,
        back=ELECTION,
        misses=MISSED,
        replaced=Handle.SAME,
        after=True,
    ),
)
"""Every cell."""
