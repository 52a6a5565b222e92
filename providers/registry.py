"""Which provider class stands behind a `backend` of the settings: an instance, passed along."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ..errors import SettingsError, SettingsProblem, UnknownBackend, did_you_mean
from .contract import DocumentsDatabaseBase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint
    from typing import Self

ENTRY_POINT_GROUP = "moorings.document_databases"

_HOSTS = frozenset({"trio", "asyncio"})


class DocumentDatabaseRegistry:
    """Provider classes by name.

    An empty one knows nothing; `default()` also knows what the installed distributions offer as
    entry points. Those are imported by `get`, never by `names`: a backend that nobody uses costs
    nothing, and one that is broken breaks nobody else.
    """

    def __init__(self, offered: Iterable[EntryPoint] = ()) -> None:
        """Start with what is `offered`, to be imported when it is first asked for."""
        self._classes: dict[str, type[DocumentsDatabaseBase]] = {}
        self._offered: dict[str, list[EntryPoint]] = {}
        for entry_point in offered:
            self._offered.setdefault(entry_point.name, []).append(entry_point)

    @classmethod
    def default(cls) -> Self:
        """A new registry of everything installed under `moorings.document_databases`."""
        return cls(entry_points(group=ENTRY_POINT_GROUP))

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
        if not name.strip():
            raise ValueError("a backend's name should not be empty")
        fault = _fault(provider_class)
        if fault is not None:
            raise TypeError(fault)
        if name in self and not replace:
            raise ValueError(
                f"backend {name!r} is registered already: pass replace=True, or use another name"
            )
        self._classes[name] = provider_class

    def get(self, name: str) -> type[DocumentsDatabaseBase]:
        """The class registered under `name`, imported now if it has to be.

        Raises:
            UnknownBackend: nothing has this name; lists what has, and the nearest.
            SettingsError: the distribution that offers it cannot be used; names it, chained to
                the cause.
        """
        found = self._classes.get(name)
        if found is None:
            found = self._classes[name] = self._load(name)
        return found

    def names(self) -> tuple[str, ...]:
        """Every name that `get` knows, sorted. Imports nothing."""
        return tuple(sorted(self._classes.keys() | self._offered.keys()))

    def __contains__(self, name: object) -> bool:
        return name in self._classes or name in self._offered

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.names()) or 'empty'}>"

    def _load(self, name: str) -> type[DocumentsDatabaseBase]:
        match self._offered.get(name, []):
            case []:
                raise UnknownBackend(
                    SettingsProblem(
                        file="the registry",
                        layer="",
                        key="backend",
                        problem=f"no provider is registered under {name!r}",
                        cure=did_you_mean(name, self.names()),
                    )
                )
            case [entry_point]:
                return _import(entry_point)
            case several:
                # Which one wins would depend on the order of installation: let a person choose.
                raise _unusable(
                    name,
                    f"{name!r} is offered by {' and by '.join(map(_distribution, several))}",
                    "Uninstall one of them, or register the class you mean under this name",
                )


def _import(entry_point: EntryPoint) -> type[DocumentsDatabaseBase]:
    try:
        loaded: Any = entry_point.load()
    except Exception as error:
        # Whatever a foreign module raises while it is imported: a broken plug-in is a setting
        # to be mended, not a bug of ours.
        raise _unusable(
            entry_point.name,
            f"{_distribution(entry_point)} offers {entry_point.value!r}, which cannot be imported "
            f"({type(error).__name__}: {error})",
            "Repair or upgrade that distribution, or install what it needs",
        ) from error
    fault = _fault(loaded)
    if fault is not None:
        raise _unusable(
            entry_point.name,
            f"{_distribution(entry_point)} offers {entry_point.value!r}, but {fault}",
            "Upgrade that distribution, or tell its author",
        )
    provider_class: type[DocumentsDatabaseBase] = loaded
    return provider_class


def _fault(candidate: Any) -> str | None:
    """What keeps `candidate` from being a provider class, or None."""
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


def _unusable(name: str, problem: str, cure: str) -> SettingsError:
    return SettingsError(
        SettingsProblem(
            file="the registry",
            layer="",
            key="backend",
            problem=f"backend {name!r} cannot be used: {problem}",
            cure=cure,
        )
    )


def _distribution(entry_point: EntryPoint) -> str:
    found = entry_point.dist
    return f"the distribution {found.name} {found.version}" if found else "an entry point"
