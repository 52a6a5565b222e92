"""Which provider class stands behind a `backend` of the settings: an instance, passed along."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from ..errors import SettingsError, UnknownBackend
from .contract import DocumentsDatabaseBase
from .plugins import PluginRegistry

ENTRY_POINT_GROUP = "moorings.document_databases"

_HOSTS = frozenset({"trio", "asyncio"})


class DocumentDatabaseRegistry(PluginRegistry[DocumentsDatabaseBase]):
    """Provider classes by name; `default()` knows those under `moorings.document_databases`."""

    group: ClassVar[str] = ENTRY_POINT_GROUP
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

    def _fault(self, candidate: Any) -> str | None:
        if not (isinstance(candidate, type) and issubclass(candidate, DocumentsDatabaseBase)):
            return f"{candidate!r} is not a subclass of DocumentsDatabaseBase: derive it from that"
        shown = candidate.__qualname__
        missing = sorted(candidate.__abstractmethods__)
        if missing:
            return f"{shown} lacks {', '.join(missing)}: a provider implements all of the contract"
        model = getattr(candidate, "settings_model", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return f"{shown} has no settings_model: set it to the pydantic model of its settings"
        if not candidate.hosts or not candidate.hosts <= _HOSTS:
            return f"{shown}.hosts should hold {' or '.join(map(repr, sorted(_HOSTS)))}, or both"
        return None
