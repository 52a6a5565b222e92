"""Whether the files that a client was made of have changed: certificates are renewed in place.

The driver reads them once, when the client is made: it goes on showing a certificate that has
expired, and distrusting a server whose authority was put right, for as long as it lives.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .mongo_settings import DriverSettings

    Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp(settings: DriverSettings) -> Stamp:
    """What the files look like now, in a thread: by inode, size and time, through any links."""
    return tuple(_seen(file) for file in settings.tls_files)


def _seen(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - one call
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
