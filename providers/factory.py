"""From a connection's settings to its provider; asks the registry, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import SettingsError, SettingsProblem

if TYPE_CHECKING:
    from .contract import DocumentsDatabaseBase
    from .registry import DocumentDatabaseRegistry


class HasBackend(Protocol):
    """Anything that says which backend it is for, such as a connection's settings."""

    @property
    def backend(self) -> str:
        """The registry's key."""
        ...


class DocumentsDatabaseFactory:
    """Makes providers, one per connection."""

    def __init__(self, registry: DocumentDatabaseRegistry) -> None:
        self.registry = registry

    def create(
        self, name: str, settings: HasBackend, *, host: str | None = None
    ) -> DocumentsDatabaseBase:
        """A new provider for the connection `name`. No I/O beyond a first import of its module.

        Args:
            name: the connection's name.
            settings: the connection's settings; only `backend` is read.
            host: `"trio"` or `"asyncio"`, to be checked against what the provider supports.

        Raises:
            UnknownBackend: `settings.backend` is not registered.
            SettingsError: the provider cannot be imported, or does not support `host`.
        """
        provider_class = self.registry.get(settings.backend)
        if host is not None:
            self._check_host(name, settings.backend, provider_class, host)
        return provider_class(name)

    def _check_host(
        self, name: str, backend: str, provider_class: type[DocumentsDatabaseBase], host: str
    ) -> None:
        if host in provider_class.hosts:
            return
        supported = " and ".join(sorted(provider_class.hosts))
        other = provider_class.instead.get(host)
        cure = f'Set backend = "{other}"' if other else "Choose another backend"
        raise SettingsError(
            SettingsProblem(
                file="settings",
                layer="",
                key=f"database.documents.{name}.backend",
                problem=f"backend {backend!r} works on {supported}, not on {host}",
                cure=f"{cure}, or open the connections under {supported}",
            )
        )
