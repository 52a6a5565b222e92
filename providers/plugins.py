"""Classes by name, of which installed distributions offer some as entry points.

What the registry of providers and that of secrets backends have in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from ..errors import SettingsError, SettingsProblem, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint
    from typing import Self

T = TypeVar("T")


class PluginRegistry(ABC, Generic[T]):
    """Classes of one kind, by name.

    An empty one knows nothing; `default()` also knows what the installed distributions offer as
    entry points. Those are imported by `get`, never by `names`: a plug-in that nobody uses costs
    nothing, and one that is broken breaks nobody else.

    Attributes:
        contract: the class that each is derived from.
        group: the group of entry points.
        word: what a name stands for, in errors.
        key: the settings' key that a name is the value of, in errors.
        implementer: who fulfils the contract, in errors.
        unknown: what is raised for a name that nothing has.
    """

    contract: ClassVar[type[Any]]
    group: ClassVar[str]
    word: ClassVar[str] = "backend"
    key: ClassVar[str] = "backend"
    implementer: ClassVar[str] = "a backend"
    unknown: ClassVar[type[SettingsError]] = SettingsError

    def __init__(self, offered: Iterable[EntryPoint] = ()) -> None:
        """Start with what is `offered`, to be imported when it is first asked for."""
        self._classes: dict[str, type[T]] = {}
        self._offered: dict[str, list[EntryPoint]] = {}
        for entry_point in offered:
            self._offered.setdefault(entry_point.name, []).append(entry_point)

    @classmethod
    def default(cls) -> Self:
        """A new registry of everything that is installed under `group`."""
        return cls(entry_points(group=cls.group))

    def get(self, name: str) -> type[T]:
        """The class registered under `name`, imported now if it has to be.

        Raises:
            SettingsError: nothing has this name (`unknown`; lists what has, and the nearest); or
                the distribution that offers it cannot be used: names it, chained to the cause.
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

    def _register(self, name: str, registered: type[T], *, replace: bool) -> None:
        """What a subclass's `register` does; errors as there."""
        if not name.strip():
            raise ValueError(f"a {self.word}'s name should not be empty")
        fault = self._fault(registered)
        if fault is not None:
            raise TypeError(fault)
        if name in self and not replace:
            raise ValueError(
                f"{self.word} {name!r} is registered already: "
                "pass replace=True, or use another name"
            )
        self._classes[name] = registered

    def _fault(self, candidate: Any) -> str | None:
        """What keeps `candidate` from being used, or None."""
        contract = self.contract
        if not (isinstance(candidate, type) and issubclass(candidate, contract)):
            shown = contract.__name__
            return f"{candidate!r} is not a subclass of {shown}: derive it from that"
        shown = candidate.__qualname__
        missing = ", ".join(sorted(getattr(candidate, "__abstractmethods__", ())))
        if missing:
            return f"{shown} lacks {missing}: {self.implementer} implements all of the contract"
        model = getattr(candidate, "settings_model", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return f"{shown} has no settings_model: set it to the pydantic model of its settings"
        return self._further_fault(candidate)

    @abstractmethod
    def _further_fault(self, candidate: type[T]) -> str | None:
        """What one kind of contract asks for besides its methods and its settings."""

    @abstractmethod
    def _no_such(self, name: str) -> str:
        """What is said where nothing has this name."""

    def _load(self, name: str) -> type[T]:
        match self._offered.get(name, []):
            case []:
                raise self.unknown(
                    SettingsProblem(
                        file="the registry",
                        layer="",
                        key=self.key,
                        problem=self._no_such(name),
                        cure=did_you_mean(name, self.names()),
                    )
                )
            case [entry_point]:
                return self._import(entry_point)
            case several:
                # Which one wins would depend on the order of installation: let a person choose.
                raise self._unusable(
                    name,
                    f"{name!r} is offered by {' and by '.join(map(_distribution, several))}",
                    "Uninstall one of them, or register the class you mean under this name",
                )

    def _import(self, entry_point: EntryPoint) -> type[T]:
        try:
            loaded: Any = entry_point.load()
        except Exception as error:
            # Whatever a foreign module raises while it is imported: a broken plug-in is a setting
            # to be mended, not a bug of ours.
            raise self._unusable(
                entry_point.name,
                f"{_distribution(entry_point)} offers {entry_point.value!r}, which cannot be "
                f"imported ({type(error).__name__}: {error})",
                "Repair or upgrade that distribution, or install what it needs",
            ) from error
        fault = self._fault(loaded)
        if fault is not None:
            raise self._unusable(
                entry_point.name,
                f"{_distribution(entry_point)} offers {entry_point.value!r}, but {fault}",
                "Upgrade that distribution, or tell its author",
            )
        plugin: type[T] = loaded
        return plugin

    def _unusable(self, name: str, problem: str, cure: str) -> SettingsError:
        return SettingsError(
            SettingsProblem(
                file="the registry",
                layer="",
                key=self.key,
                problem=f"{self.word} {name!r} cannot be used: {problem}",
                cure=cure,
            )
        )


def _distribution(entry_point: EntryPoint) -> str:
    found = entry_point.dist
    return f"the distribution {found.name} {found.version}" if found else "an entry point"
