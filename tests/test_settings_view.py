"""What is shown of settings: everything but secrets; and the schema of the TOML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from moorings.providers.local import LocalDBProvider
from moorings.providers.mongo import MongoProvider
from moorings.providers.references import Secret  # noqa: TC001 - pydantic evaluates annotations
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.loading import LoadedSettings, load_settings
from moorings.runtime.settings import ConnectionSettings, DatabaseSettings, Settings
from moorings.runtime.settings_view import redacted, settings_schema

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-and-more"


class Tls(BaseModel):
    ca_file: str


class ServerSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Secret = SecretStr("server://h")
    password: Secret | None = None
    database_name: str = "main"
    threads: int = 64
    tls: bool | Tls = False
    options: dict[str, int] = {}


class ServerProvider(LocalDBProvider):
    settings_model: ClassVar[type[BaseModel]] = ServerSettings


@pytest.fixture
def registry() -> DocumentDatabaseRegistry:
    registry = DocumentDatabaseRegistry()
    registry.register("local", LocalDBProvider)
    registry.register("mongo", MongoProvider)
    registry.register("server", ServerProvider)
    return registry


@pytest.fixture
def load(registry: DocumentDatabaseRegistry, tmp_path: Path) -> Any:
    def write_and_load(toml: str) -> LoadedSettings:
        file = tmp_path / "settings.toml"
        file.write_text(toml)
        return load_settings(file, registry=registry, environ={})

    return write_and_load


def test_what_is_shown_holds_everything_but_secrets(load: Any) -> None:
    loaded = load(
        f"""
        [default.database.documents.main]
        backend = "server"
        [default.database.documents.main.provider]
        url = "server://app:{SECRET}@db:1/x?tls=true"
        password = "{SECRET}"
        tls = {{ ca_file = "/ca.pem" }}
        [default.database.documents.ref]
        backend = "server"
        provider = {{ password = {{ path = "a", key = "b" }} }}
        [default.database.documents.off]
        enabled = false
        backend = "elsewhere"
        provider = {{ dsn = "{SECRET}", port = 1, hosts = ["{SECRET}"], more = {{ x = true }} }}
        """
    )
    shown = redacted(loaded)
    documents = shown["database"]["documents"]
    assert documents["main"]["provider"] == {
        "url": "server://**********@db:1/x?tls=true",
        "password": "**********",
        "database_name": "main",
        "threads": 64,
        "tls": {"ca_file": "/ca.pem"},
        "options": {},
    }
    assert documents["ref"]["provider"]["password"] == {"path": "a", "key": "b"}
    assert documents["off"]["provider"] == {
        "dsn": "**********", "port": 1, "hosts": ["**********"], "more": {"x": True}
    }  # fmt: skip
    assert documents["main"]["retry"]["attempts"] == 5
    assert shown["runtime"]["startup"] == "background"
    assert SECRET not in repr(shown)
    assert SECRET not in repr(loaded)


class Loose(BaseModel):
    """A model by somebody who never heard of SecretStr."""

    url: str = ""
    api_token: str = ""
    hosts: tuple[str, ...] = ()
    ratio: float = math.inf


class LooseProvider(LocalDBProvider):
    settings_model: ClassVar[type[BaseModel]] = Loose


def test_what_looks_like_a_secret_is_one(registry: DocumentDatabaseRegistry) -> None:
    registry.register("loose", LooseProvider)
    provider = {"url": f"x://u:{SECRET}@h", "api_token": SECRET, "hosts": [f"x://{SECRET}@h"]}
    connection = ConnectionSettings(backend="loose", provider=provider)
    settings = Settings(database=DatabaseSettings(documents={"main": connection}))
    shown = redacted(load_settings(settings, registry=registry))
    assert SECRET not in repr(shown)
    assert shown["database"]["documents"]["main"]["provider"]["url"] == "x://**********@h"


def test_the_schema_describes_every_layer_and_every_backend(
    registry: DocumentDatabaseRegistry,
) -> None:
    schema = settings_schema(registry)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["default"] == schema["additionalProperties"]
    definitions = schema["$defs"]
    connection = definitions["ConnectionSettings"]
    assert connection["properties"]["backend"]["enum"] == ["local", "mongo", "server"]
    assert connection["additionalProperties"] is False
    assert "required" not in connection
    assert definitions["ConnectionSettings.mongo"]["properties"].keys() >= {"url", "database_name"}
    assert definitions["DatabaseSettings"]["additionalProperties"] is True
    assert definitions["RetrySettings"]["properties"]["attempts"]["minimum"] == 1


def test_every_reference_of_the_schema_leads_somewhere(registry: DocumentDatabaseRegistry) -> None:
    schema = settings_schema(registry)

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if "$ref" in node else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}
