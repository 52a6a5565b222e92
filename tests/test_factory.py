"""The factory: from settings to a provider instance."""

from __future__ import annotations

import pytest

from moorings.errors import SettingsError, UnknownBackend
from moorings.providers.factory import DocumentsDatabaseFactory
from moorings.providers.local import LocalDBProvider
from moorings.providers.pymongo_async import PyMongoProvider
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.settings import ConnectionSettings


class TrioOnly(LocalDBProvider):
    hosts = frozenset({"trio"})


@pytest.fixture
def factory() -> DocumentsDatabaseFactory:
    registry = DocumentDatabaseRegistry()
    registry.register("local", LocalDBProvider)
    registry.register("trio_only", TrioOnly)
    return DocumentsDatabaseFactory(registry)


def test_a_connection_gets_a_provider_of_its_own(factory: DocumentsDatabaseFactory) -> None:
    settings = ConnectionSettings(backend="local")
    one, other = factory.create("one", settings), factory.create("other", settings)
    assert isinstance(one, LocalDBProvider)
    assert (one.name, other.name) == ("one", "other")
    assert one is not other


def test_an_unknown_backend_is_named(factory: DocumentsDatabaseFactory) -> None:
    with pytest.raises(UnknownBackend, match="did you mean 'local'"):
        factory.create("one", ConnectionSettings(backend="locale"))


@pytest.mark.parametrize("host", ["trio", "asyncio"])
def test_a_supported_host_passes(factory: DocumentsDatabaseFactory, host: str) -> None:
    assert factory.create("one", ConnectionSettings(backend="local"), host=host).name == "one"


def test_a_host_that_the_backend_does_not_support_is_an_error(
    factory: DocumentsDatabaseFactory,
) -> None:
    with pytest.raises(SettingsError) as caught:
        factory.create("one", ConnectionSettings(backend="trio_only"), host="asyncio")
    (problem,) = caught.value.problems
    assert problem.key == "database.documents.one.backend"
    assert "works on trio, not on asyncio" in problem.problem
    assert problem.cure == "Choose another backend, or open the connections under trio"


def test_where_another_backend_does_the_same_on_that_host_it_is_named(
    factory: DocumentsDatabaseFactory,
) -> None:
    factory.registry.register("pymongo", PyMongoProvider)
    with pytest.raises(
        SettingsError, match=r'works on asyncio, not on trio\. Set backend = "mongo"'
    ):
        factory.create("one", ConnectionSettings(backend="pymongo"), host="trio")
