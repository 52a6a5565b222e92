"""Which provider class stands behind a `backend` of the settings: an instance, passed along."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import SettingsError, UnknownBackend
from .contract import DocumentsDatabaseBase
from .plugins import PluginRegistry

ENTRY_POINT_GROUP = "moorings.document_databases"

_HOSTS = frozenset({"trio", "asyncio"})


class DocumentDatabaseRegistry(PluginRegistry[DocumentsDatabaseBase]):
    """Provider classes by name; `default()` knows those under `moorings.document_databases`."""

    contract: ClassVar[type[Any]] = DocumentsDatabaseBase
    group: ClassVar[str] = ENTRY_POINT_GROUP
    implementer: ClassVar[str] = "a provider"
    unknown: ClassVar[type[SettingsError]] = UnknownBackend

    def register(
        self,
        name: str,
        provider_class: type[DocumentsDatabaseBase],
        *,
        replace: bool = False,
    ) -> None:
        """Make `backend = "<name>"` mean `provider_class`.

        Args:
            name: what the settings will say.
            provider_class: a concrete subclass of `DocumentsDatabaseBase`.
            replace: take the place of a backend that has this name already.

        Raises:
            TypeError: the class does not fulfil the contract; says what is missing.
            ValueError: the name is not usable, or taken and `replace` is False.
        """
        self._register(name, provider_class, replace=replace)

    def _no_such(self, name: str) -> str:
        return f"no provider is registered under {name!r}"

    def _further_fault(self, candidate: type[DocumentsDatabaseBase]) -> str | None:
        if not candidate.hosts or not candidate.hosts <= _HOSTS:
            shown = candidate.__qualname__
            return f"{shown}.hosts should hold {' or '.join(map(repr, sorted(_HOSTS)))}, or both"
        return None
