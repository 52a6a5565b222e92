"""The registry: what may be registered, what is found, and how a broken plug-in is reported."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, EntryPoint, EntryPoints, PathDistribution
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel

from moorings.errors import SettingsError, UnknownBackend
from moorings.providers.contract import DocumentsDatabaseBase
from moorings.providers.registry import ENTRY_POINT_GROUP, DocumentDatabaseRegistry

if TYPE_CHECKING:
    from pathlib import Path


class NoSettings(BaseModel):
    pass


class Nothing(DocumentsDatabaseBase):
    """A backend that connects to nothing, for all that a registry cares."""

    settings_model: ClassVar[type[BaseModel]] = NoSettings

    def endpoint(self, settings: Any) -> str:
        return "nowhere"

    async def open(self, settings: Any, notify: Any) -> Any:
        return None

    async def ping(self, client: Any) -> None: ...

    async def verify(self, client: Any) -> None: ...

    def database(self, client: Any) -> Any:
        return client

    async def close(self, client: Any) -> None: ...

    def classify(self, error: BaseException) -> None:
        return None


class Other(Nothing):
    pass


class WithoutModel(Nothing):
    settings_model: Any = None


class WithoutHosts(Nothing):
    hosts: ClassVar[frozenset[str]] = frozenset()


class OnAnotherHost(Nothing):
    hosts: ClassVar[frozenset[str]] = frozenset({"trio", "curio"})


class Unfinished(DocumentsDatabaseBase):
    settings_model: ClassVar[type[BaseModel]] = NoSettings


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a real distribution, and gives the entry points it offers."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, line: str, **modules: str) -> EntryPoints:
        info = tmp_path / f"{name}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{line}\n")
        for module, source in modules.items():
            (tmp_path / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        distribution: Distribution = PathDistribution(info)
        return distribution.entry_points

    return install


def test_what_is_registered_is_found() -> None:
    registry = DocumentDatabaseRegistry()
    registry.register("nothing", Nothing)
    assert registry.get("nothing") is Nothing
    assert registry.names() == ("nothing",)
    assert "nothing" in registry
    assert "something" not in registry
    assert repr(registry) == "<DocumentDatabaseRegistry nothing>"


def test_registries_are_independent_instances() -> None:
    DocumentDatabaseRegistry().register("nothing", Nothing)
    assert DocumentDatabaseRegistry().names() == ()
    assert repr(DocumentDatabaseRegistry()) == "<DocumentDatabaseRegistry empty>"


def test_a_taken_name_needs_replace() -> None:
    registry = DocumentDatabaseRegistry()
    registry.register("nothing", Nothing)
    with pytest.raises(ValueError, match="replace=True"):
        registry.register("nothing", Other)
    assert registry.get("nothing") is Nothing
    registry.register("nothing", Other, replace=True)
    assert registry.get("nothing") is Other


@pytest.mark.parametrize("name", ["", " "])
def test_a_backend_needs_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        DocumentDatabaseRegistry().register(name, Nothing)


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (dict, "derive it"),
        (Nothing("instance"), "derive it"),
        (WithoutModel, "settings_model"),
        (WithoutHosts, "hosts"),
        (OnAnotherHost, "hosts"),
        (Unfinished, "lacks classify, close, database, endpoint, open, ping, verify"),
    ],
)
def test_a_class_that_does_not_fulfil_the_contract_is_refused(candidate: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        DocumentDatabaseRegistry().register("broken", candidate)


def test_an_unknown_backend_names_the_known_ones_and_the_nearest() -> None:
    registry = DocumentDatabaseRegistry()
    registry.register("mongo", Nothing)
    registry.register("local", Nothing)
    with pytest.raises(UnknownBackend, match=r"'mungo'.*local, mongo.*did you mean 'mongo'"):
        registry.get("mungo")


def test_the_installed_backends_are_known_by_default() -> None:
    assert {"local", "mongo"} <= set(DocumentDatabaseRegistry.default().names())


def test_an_entry_point_is_imported_when_it_is_asked_for(offered: Any) -> None:
    source = "from moorings.providers.local import LocalDBProvider as Provider"
    points = offered("late", "late = late_module:Provider", late_module=source)
    registry = DocumentDatabaseRegistry(points)
    assert registry.names() == ("late",)
    assert "late_module" not in sys.modules
    assert registry.get("late").__name__ == "LocalDBProvider"
    assert registry.get("late") is registry.get("late")


def test_what_is_registered_may_replace_what_is_offered(offered: Any) -> None:
    registry = DocumentDatabaseRegistry(offered("gone", "gone = nowhere_to_be_found:Provider"))
    with pytest.raises(ValueError, match="replace=True"):
        registry.register("gone", Nothing)
    registry.register("gone", Nothing, replace=True)
    assert registry.get("gone") is Nothing


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import a_driver_that_is_not_there", "ModuleNotFoundError"),
        ("raise OSError('no such library')", "no such library"),
        ("", "AttributeError"),
        ("Provider = 3", "not a subclass"),
    ],
)
def test_a_broken_plug_in_is_an_error_that_names_its_distribution(
    offered: Any, source: str, said: str
) -> None:
    points = offered("brittle", "brittle = brittle_module:Provider", brittle_module=source)
    registry = DocumentDatabaseRegistry(points)
    registry.register("nothing", Nothing)
    with pytest.raises(SettingsError, match=said) as caught:
        registry.get("brittle")
    assert "the distribution brittle 2.1" in str(caught.value)
    assert not isinstance(caught.value, UnknownBackend)
    assert registry.get("nothing") is Nothing


def test_two_distributions_that_offer_one_name_are_both_named(offered: Any) -> None:
    """The order of installation must not decide which database is used."""
    first = offered("first", "same = first_module:Provider")
    second = offered("second", "same = second_module:Provider")
    with pytest.raises(SettingsError, match=r"first 2\.1 and by the distribution second 2\.1"):
        DocumentDatabaseRegistry([*first, *second]).get("same")


def test_an_entry_point_without_a_distribution_can_be_reported() -> None:
    point = EntryPoint("stray", "nowhere_to_be_found:Provider", ENTRY_POINT_GROUP)
    with pytest.raises(SettingsError, match="an entry point offers"):
        DocumentDatabaseRegistry([point]).get("stray")
