"""Preparation: settings built by hand keep the same rules as those from files."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from moorings.errors import SettingsError, UnknownBackend
from moorings.providers.local import LocalDBProvider, LocalSettings
from moorings.providers.references import Secret, SecretReference
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.preparation import prepare
from moorings.runtime.secrets_local import EnvSecretsSettings, FileSecretsSettings
from moorings.runtime.settings import (
    ConnectionSettings,
    DatabaseSettings,
    SecretsSettings,
    SecuritySettings,
    Settings,
)

SECRET = "hunter2-and-more"
MAIN = "database.documents.main"


class ServerSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Secret = SecretStr("server://h")

    @field_validator("url")
    @classmethod
    def _server(cls, url: Secret) -> Secret:
        if isinstance(url, SecretStr) and not url.get_secret_value().startswith("server://"):
            raise ValueError(f"{url.get_secret_value()!r} is no URL of a server")
        return url


class ServerProvider(LocalDBProvider):
    settings_model: ClassVar[type[BaseModel]] = ServerSettings


@pytest.fixture
def registry() -> DocumentDatabaseRegistry:
    registry = DocumentDatabaseRegistry()
    registry.register("local", LocalDBProvider)
    registry.register("mongo", ServerProvider)
    return registry


def by_hand(provider: Any, backend: str = "mongo", **more: Any) -> Settings:
    connection = ConnectionSettings(backend=backend, provider=provider, **more)
    return Settings(database=DatabaseSettings(documents={"main": connection}))


def test_mappings_become_instances_of_the_backends_model(
    registry: DocumentDatabaseRegistry,
) -> None:
    settings = by_hand({"url": {"path": "a", "key": "b"}})
    prepared = prepare(settings, registry)
    provider = prepared.database.documents["main"].provider
    assert provider == ServerSettings(url=SecretReference(path="a", key="b"))
    assert prepared.security.secrets.provider == EnvSecretsSettings()
    assert settings.database.documents["main"].provider == {"url": {"path": "a", "key": "b"}}


def test_prepared_settings_pass_as_the_same_object(registry: DocumentDatabaseRegistry) -> None:
    """Opening a thousand connections does not pay for validation twice."""
    once = prepare(by_hand({}), registry)
    assert prepare(once, registry) is once


def test_instances_are_kept_as_they_are(registry: DocumentDatabaseRegistry) -> None:
    provider, secrets = ServerSettings(), FileSecretsSettings()
    settings = by_hand(provider).model_copy(
        update={
            "security": SecuritySettings(secrets=SecretsSettings(backend="file", provider=secrets))
        }
    )
    assert prepare(settings, registry) is settings


def test_disabled_connections_are_left_alone(registry: DocumentDatabaseRegistry) -> None:
    settings = by_hand({"anything": 1}, backend="elsewhere", enabled=False)
    prepared = prepare(settings, registry)
    assert prepared.database is settings.database


@pytest.mark.parametrize(
    ("settings", "key", "said"),
    [
        (by_hand({"url": SECRET}), f"{MAIN}.provider.url", "is no URL"),
        (by_hand(LocalSettings()), f"{MAIN}.provider", "LocalSettings, which is not for"),
        (by_hand({}, backend="mungo"), f"{MAIN}.backend", "'mungo'"),
        (
            Settings(database=DatabaseSettings(default_document_connection="main")),
            "database.default_document_connection",
            "there is no connection 'main'",
        ),
        (
            Settings(security=SecuritySettings(secrets=SecretsSettings(backend="x"))),
            "security.secrets.backend",
            "there is no secrets backend 'x'",
        ),
    ],
)
def test_problems_name_the_program_and_the_key(
    registry: DocumentDatabaseRegistry, settings: Settings, key: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        prepare(settings, registry)
    (problem,) = caught.value.problems
    assert (problem.file, problem.layer, problem.key) == ("program", "", key)
    assert said in problem.problem
    assert problem.cure
    assert SECRET not in str(problem)
    assert caught.value.__context__ is None


def test_all_problems_come_at_once(registry: DocumentDatabaseRegistry) -> None:
    documents = {
        name: ConnectionSettings(backend=backend, provider={"url": 3})
        for name, backend in {"a": "mungo", "b": "mongo", "c": "mungo"}.items()
    }
    with pytest.raises(SettingsError) as caught:
        prepare(Settings(database=DatabaseSettings(documents=documents)), registry)
    assert [problem.key for problem in caught.value.problems] == [
        "database.documents.a.backend",
        "database.documents.b.provider.url",
        "database.documents.c.backend",
    ]
    assert not isinstance(caught.value, UnknownBackend)
