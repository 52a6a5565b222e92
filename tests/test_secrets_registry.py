"""Secrets backends of others: found by entry points, imported when asked for, or told why not."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest
from pydantic import BaseModel, SecretStr

from moorings import SecretsBackend, SettingsError
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.loading import load_settings
from moorings.runtime.preparation import prepare
from moorings.runtime.secrets_local import EnvSecrets, FileSecrets
from moorings.runtime.secrets_registry import (
    ENTRY_POINT_GROUP,
    SecretsBackendRegistry,
    secrets_backend,
)
from moorings.runtime.settings import SecretsSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path


class Model(BaseModel):
    room: str = "cellar"


class Box(SecretsBackend):
    name: ClassVar[str] = "box"
    settings_model: ClassVar[type[BaseModel]] = Model

    def __init__(self, room: str) -> None:
        self.room = room

    @classmethod
    def from_settings(cls, settings: Model) -> Self:
        return cls(settings.room)

    async def resolve(self, path: str, key: str) -> SecretStr:
        return SecretStr(f"{self.room}/{path}/{key}")


class Unfinished(SecretsBackend):
    name: ClassVar[str] = "unfinished"
    settings_model: ClassVar[type[BaseModel]] = Model


class Shapeless(Box):
    settings_model: ClassVar[Any] = None


class Nameless(Box):
    name: ClassVar[Any] = None


MODULE = """
from moorings import SecretsBackend
from pydantic import BaseModel, SecretStr

class Model(BaseModel):
    room: str = "attic"

class Backend(SecretsBackend):
    name, settings_model = "offered", Model

    @classmethod
    def from_settings(cls, settings):
        return cls()

    async def resolve(self, path, key):
        return SecretStr("x")
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A distribution that offers a line of this group; gives a registry of it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(line: str, source: str = MODULE) -> SecretsBackendRegistry:
        info = tmp_path / "moorings_example-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: moorings-example\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{line}\n")
        (tmp_path / "moorings_example.py").write_text(source)
        monkeypatch.delitem(sys.modules, "moorings_example", raising=False)
        return SecretsBackendRegistry(PathDistribution(info).entry_points)

    return install


def test_our_own_are_installed_like_anybody_elses() -> None:
    registry = SecretsBackendRegistry.default()
    assert {"env", "file", "vault"} <= {*registry.names()}
    assert registry.get("env") is EnvSecrets
    assert registry.get("file") is FileSecrets


def test_vault_is_imported_without_hvac() -> None:
    code = (
        "import sys; from moorings.runtime.secrets_registry import SecretsBackendRegistry; "
        "SecretsBackendRegistry.default().get('vault'); "
        "print([m for m in ('hvac', 'requests') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_a_third_partys_backend_is_imported_when_it_is_asked_for(installed: Any) -> None:
    registry = installed("offered = moorings_example:Backend")
    assert registry.names() == ("offered",)
    assert "moorings_example" not in sys.modules
    assert registry.get("offered").name == "offered"


def test_its_settings_are_validated_by_its_model(installed: Any) -> None:
    registry = installed("offered = moorings_example:Backend")
    given = Settings.model_validate(
        {"security": {"secrets": {"backend": "offered", "provider": {"room": "hall"}}}}
    )
    prepared = prepare(given, DocumentDatabaseRegistry(), secrets_registry=registry)
    assert prepared.security.secrets.provider.room == "hall"
    assert secrets_backend(prepared.security.secrets, registry).name == "offered"
    wrong = {"security": {"secrets": {"backend": "offered", "provider": {"room": 3}}}}
    with pytest.raises(SettingsError) as caught:
        prepare(
            Settings.model_validate(wrong), DocumentDatabaseRegistry(), secrets_registry=registry
        )
    (problem,) = caught.value.problems
    assert problem.key == "security.secrets.provider.room"


def test_one_that_cannot_be_imported_is_named_and_chained(
    installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = installed("offered = moorings_example:Backend", "import not_there_at_all")
    monkeypatch.setattr(SecretsBackendRegistry, "default", staticmethod(lambda: registry))
    with pytest.raises(SettingsError) as caught:
        load_settings({"default": {"security": {"secrets": {"backend": "offered"}}}}, environ={})
    (problem,) = caught.value.problems
    assert problem.key == "security.secrets.backend"
    assert "the distribution moorings-example 2.1 offers" in problem.problem
    assert "Repair or upgrade" in problem.cure
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_one_that_does_not_keep_the_contract_says_what_is_missing(installed: Any) -> None:
    registry = installed("offered = moorings_example:Model")
    with pytest.raises(SettingsError, match="not a subclass of SecretsBackend: derive it"):
        registry.get("offered")


def test_a_slip_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"there is no secrets backend 'valut'.*'vault'\?"):
        SecretsBackendRegistry.default().get("valut")


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (Unfinished, "Unfinished lacks from_settings, resolve"),
        (Shapeless, "Shapeless has no settings_model"),
        (Nameless, "Nameless has no name"),
        (object, "not a subclass of SecretsBackend"),
    ],
)
def test_what_is_registered_has_to_keep_the_contract(backend: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        SecretsBackendRegistry().register("box", backend)


def test_a_taken_name_needs_replace() -> None:
    registry = SecretsBackendRegistry()
    registry.register("box", Box)
    with pytest.raises(ValueError, match="secrets backend 'box' is registered already"):
        registry.register("box", Box)
    registry.register("box", Box, replace=True)
    with pytest.raises(ValueError, match="should not be empty"):
        registry.register(" ", Box)


async def test_the_defaults_of_the_contract_are_enough() -> None:
    """`resolve` alone makes a backend: several are resolved one by one, and nothing is held."""
    from moorings.providers.references import SecretReference

    registry = SecretsBackendRegistry()
    registry.register("box", Box)
    box = secrets_backend(SecretsSettings(backend="box", provider=Model()), registry)
    reference = SecretReference(path="a", key="b")
    found = await box.resolve_all([reference])
    assert found == {reference: SecretStr("cellar/a/b")}
    box.close()
