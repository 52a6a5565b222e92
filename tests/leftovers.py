"""What this process holds that does not go away by itself.

A count of all there is changes under a test that does nothing: an idle thread of trio's cache ends
after ten seconds, whichever test it worked for.
"""

from __future__ import annotations

import threading

from soak.holdings import open_files

__all__ = ["open_files", "sockets", "threads"]


def sockets() -> list[str]:
    """The open sockets, by number."""
    return [name for name in open_files() if name.startswith("socket:")]


def threads() -> set[threading.Thread]:
    """All but trio's idle ones; one that works has another name."""
    return {one for one in threading.enumerate() if not one.name.startswith("Trio thread ")}
