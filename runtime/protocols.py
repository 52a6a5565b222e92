"""What a connection promises to those who only need part of it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class BaseServiceProtocol(Protocol):
    """Something with a name that is ready or not, and that can be waited for."""

    @property
    def name(self) -> str:
        """What the settings call it."""

    def is_ready(self) -> bool:
        """Whether it may be used now."""

    async def wait_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait until it may be used."""

    async def start(self) -> None:
        """Start it."""

    async def stop(self) -> None:
        """Stop it."""

    async def restart(self) -> None:
        """Start it anew."""


@runtime_checkable
class DocumentsDatabaseProtocol(BaseServiceProtocol, Protocol):
    """A service that hands out a native document-database object."""

    async def get_database(self, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """The native database, once it is ready."""

    def database(self) -> Any:
        """The native database, if it is ready now."""
