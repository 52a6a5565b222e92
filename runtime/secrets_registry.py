"""Which class stands behind `security.secrets.backend`: an instance, passed along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..providers.plugins import PluginRegistry
from .secrets import SecretsBackend

if TYPE_CHECKING:
    from .settings import SecretsSettings

ENTRY_POINT_GROUP = "moorings.secrets_backends"


class SecretsBackendRegistry(PluginRegistry[SecretsBackend]):
    """Secrets backends by name; `default()` knows those under `moorings.secrets_backends`."""

    contract: ClassVar[type[Any]] = SecretsBackend
    group: ClassVar[str] = ENTRY_POINT_GROUP
    word: ClassVar[str] = "secrets backend"
    key: ClassVar[str] = "security.secrets.backend"

    def register(
        self, name: str, backend_class: type[SecretsBackend], *, replace: bool = False
    ) -> None:
        """Make `security.secrets.backend = "<name>"` mean `backend_class`.

        Args:
            name: what the settings will say.
            backend_class: a concrete subclass of `SecretsBackend`.
            replace: take the place of a backend that has this name already.

        Raises:
            TypeError: the class does not fulfil the contract; says what is missing.
            ValueError: the name is not usable, or taken and `replace` is False.
        """
        self._register(name, backend_class, replace=replace)

    def _no_such(self, name: str) -> str:
        return f"there is no secrets backend {name!r}"

    def _further_fault(self, candidate: type[SecretsBackend]) -> str | None:
        if not isinstance(getattr(candidate, "name", None), str):
            return f"{candidate.__qualname__} has no name: set it to the key that it is known by"
        return None


def secrets_backend(
    settings: SecretsSettings, registry: SecretsBackendRegistry | None = None
) -> SecretsBackend:
    """The backend that prepared settings ask for (see `preparation.prepare`). No I/O.

    Args:
        settings: their `provider` is an instance of the backend's model.
        registry: knows the backends; None: what is installed.
    """
    registry = SecretsBackendRegistry.default() if registry is None else registry
    backend_class = registry.get(settings.backend)
    if not isinstance(settings.provider, backend_class.settings_model):
        raise TypeError(f"not prepared: {type(settings.provider).__name__}")
    backend = backend_class.from_settings(settings.provider)
    refresh: object = backend.refresh
    if not (isinstance(refresh, int | float) and refresh > 0):  # NaN is not, either
        raise TypeError(
            f"{backend_class.__qualname__}.refresh is {refresh!r}: set it to a number of seconds "
            "above 0, or to math.inf"
        )
    return backend
