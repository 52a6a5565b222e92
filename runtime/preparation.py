"""What the models alone cannot check: backends, their `provider` tables, the default connection."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import SettingsError, SettingsProblem, UnknownBackend, did_you_mean
from .layers import Origin
from .redaction import redact_urls
from .secrets_registry import SecretsBackendRegistry
from .validation import find_faults, hider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..providers.registry import DocumentDatabaseRegistry
    from .layers import KeyPath
    from .settings import Settings

PROGRAM = Origin("program")

_BOOL = TypeAdapter(bool)
_DOCUMENTS = ("database", "documents")
_DEFAULT_CONNECTION = ("database", "default_document_connection")
_SECRETS = ("security", "secrets")


def prepare(
    settings: Settings,
    registry: DocumentDatabaseRegistry,
    where: Callable[[KeyPath], Origin] = lambda _: PROGRAM,
    *,
    secrets_registry: SecretsBackendRegistry | None = None,
) -> Settings:
    """`settings` with every `provider` an instance of its backend's model: fit to be used.

    What is an instance already is not validated again, and settings of which nothing has to be
    changed are returned as they are. Disabled connections are left alone: their backend need not
    even be installed.

    Args:
        settings: from files or built by hand.
        registry: knows the backends.
        where: the origin of a key, for problems.
        secrets_registry: knows the secrets backends; None: what is installed.

    Raises:
        SettingsError: with every problem there is.
        UnknownBackend: the only problems are backends that nobody registered.
    """
    check = Check(registry, where, secrets_registry)
    prepared = {}
    for name, connection in settings.database.documents.items():
        if connection.enabled:
            provider = check.connection(name, connection.backend, connection.provider)
            if provider is not connection.provider:
                prepared[name] = connection.model_copy(update={"provider": provider})
    secrets = settings.security.secrets
    secrets_provider = check.secrets(secrets.backend, secrets.provider)
    enabled = {name: c.enabled for name, c in settings.database.documents.items()}
    check.default_connection(settings.database.default_document_connection, enabled)
    check.raise_problems()
    if prepared:
        documents = MappingProxyType({**settings.database.documents, **prepared})
        database = settings.database.model_copy(update={"documents": documents})
        settings = settings.model_copy(update={"database": database})
    if secrets_provider is not secrets.provider:
        secrets = secrets.model_copy(update={"provider": secrets_provider})
        security = settings.security.model_copy(update={"secrets": secrets})
        settings = settings.model_copy(update={"security": security})
    return settings


class Check:
    """Collects problems; everything is looked at before anything is raised."""

    def __init__(
        self,
        registry: DocumentDatabaseRegistry,
        where: Callable[[KeyPath], Origin],
        secrets_registry: SecretsBackendRegistry | None = None,
    ) -> None:
        self._registry = registry
        self._secrets_registry = secrets_registry or SecretsBackendRegistry.default()
        self._where = where
        self._models: dict[str, type[BaseModel] | SettingsError] = {}
        self._problems: list[SettingsProblem] = []
        self._causes: list[BaseException | None] = []
        self._only_unknown_backends = True

    def connection(self, name: str, backend: str, provider: Any) -> Any:
        """The validated `provider` of a connection; `provider` itself where that fails."""
        at = (*_DOCUMENTS, name)
        model = self._model(backend)
        if isinstance(model, SettingsError):
            self._only_unknown_backends &= isinstance(model, UnknownBackend)
            for problem in model.problems:
                self._add((*at, "backend"), problem.problem, problem.cure)
            return provider
        return self._validated(model, backend, provider, (*at, "provider"))

    def secrets(self, backend: str, provider: Any) -> Any:
        """The validated settings of the secrets backend; `provider` itself where that fails."""
        try:
            model = self._secrets_registry.get(backend).settings_model
        except SettingsError as error:
            for problem in error.problems:
                self.add((*_SECRETS, "backend"), problem.problem, problem.cure)
            self._causes.append(error.__cause__)
            return provider
        return self._validated(model, backend, provider, (*_SECRETS, "provider"))

    def default_connection(self, name: str | None, enabled: Mapping[str, bool]) -> None:
        """The default connection, if there is one, has to exist and be enabled."""
        if name is None or enabled.get(name, False):
            return
        if name in enabled:
            cure = f"Enable it, or choose another. {did_you_mean('', _true(enabled))}"
            self.add(_DEFAULT_CONNECTION, f"connection {name!r} is disabled", cure)
        else:
            cure = did_you_mean(name, _true(enabled))
            self.add(_DEFAULT_CONNECTION, f"there is no connection {name!r}", cure)

    def tree(self, tree: Mapping[str, Any]) -> None:
        """Check what can be checked of settings that are not valid, so that all comes at once."""
        database = _table(tree, "database")
        documents = _table(database, "documents")
        enabled = {name: _is_enabled(table) for name, table in documents.items()}
        for name in _true(enabled):
            backend = documents[name].get("backend")
            provider = documents[name].get("provider", {})
            if isinstance(backend, str) and backend and isinstance(provider, Mapping | BaseModel):
                self.connection(name, backend, provider)
        default = database.get("default_document_connection")
        if isinstance(default, str):
            self.default_connection(default, enabled)
        secrets = _table(_table(tree, "security"), "secrets")
        backend, provider = secrets.get("backend", "env"), secrets.get("provider", {})
        if isinstance(backend, str) and isinstance(provider, Mapping | BaseModel):
            self.secrets(backend, provider)

    def add(self, path: KeyPath, problem: str, cure: str) -> None:
        """Note a problem with the value at `path`."""
        self._only_unknown_backends = False
        self._add(path, problem, cure)

    def note(self, problems: Iterable[SettingsProblem]) -> None:
        """Note problems that were found elsewhere."""
        for problem in problems:
            self._only_unknown_backends = False
            self._problems.append(problem)

    def raise_problems(self) -> None:
        """Raise all that was noted, or return if there is nothing."""
        if not self._problems:
            return
        kind = UnknownBackend if self._only_unknown_backends else SettingsError
        # A backend that cannot be imported says why in its cause.
        causes = [m.__cause__ for m in self._models.values() if isinstance(m, SettingsError)]
        raise kind(*self._problems) from next(filter(None, (*causes, *self._causes)), None)

    def _model(self, backend: str) -> type[BaseModel] | SettingsError:
        if backend not in self._models:
            try:
                self._models[backend] = self._registry.get(backend).settings_model
            except SettingsError as error:
                self._models[backend] = error
        return self._models[backend]

    def _validated(self, model: type[BaseModel], backend: str, provider: Any, at: KeyPath) -> Any:
        if isinstance(provider, model):
            return provider
        if isinstance(provider, BaseModel):
            problem = f"is a {type(provider).__name__}, which is not for backend {backend!r}"
            self.add(at, problem, f"Pass a {model.__name__}, or a mapping")
            return provider
        try:
            return model.model_validate(dict(provider))
        except ValidationError as error:
            for fault in find_faults(model, error, hider(provider)):
                self.add((*at, *fault.path), fault.problem, fault.cure)
        return provider

    def _add(self, path: KeyPath, problem: str, cure: str) -> None:
        origin = self._where(path)
        key = redact_urls(".".join(path))  # a URL may stand where a name belongs
        self._problems.append(SettingsProblem(origin.file, origin.layer, key, problem, cure))


def _true(enabled: Mapping[str, bool]) -> list[str]:
    return [name for name, value in enabled.items() if value]


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _is_enabled(table: Any) -> bool:
    if not isinstance(table, Mapping):
        return False
    try:
        return _BOOL.validate_python(table.get("enabled", True))
    except ValidationError:
        return True
