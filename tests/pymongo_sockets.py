"""For tests of the backend `pymongo`, whose driver leaves sockets of cancelled calls to collection.

They are marked with `filterwarnings(UNCLOSED_BY_PYMONGO)` and ask for `pymongo_sockets_collected`.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCLOSED_BY_PYMONGO = "ignore:unclosed <?(socket|transport):ResourceWarning"
"""PyMongo's asynchronous client closes a socket whose connecting fails, but not one whose
connecting is cancelled, as its monitors are when it is closed (PYTHON-5867). No descriptor is lost
(tests count them); only Python's warning about it must not end another test."""


@pytest.fixture
def pymongo_sockets_collected() -> Iterator[None]:
    """No later test meets a socket that PyMongo left to collection."""
    yield
    gc.collect()
