"""Secrets: what references lead to, what is said when they lead nowhere, and never the value."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import trio
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from moorings.errors import SecretUnavailable, SettingsError
from moorings.providers.references import Secret, SecretReference
from moorings.runtime import secrets_local as secrets_module
from moorings.runtime.redaction import Redactor
from moorings.runtime.resolver import Resolver
from moorings.runtime.secrets import resolve_settings
from moorings.runtime.secrets_local import (
    MAX_BYTES,
    EnvSecrets,
    EnvSecretsSettings,
    FileSecrets,
    FileSecretsSettings,
)
from moorings.runtime.secrets_registry import secrets_backend
from moorings.runtime.settings import SecretsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = SecretReference(path="database/mongo", key="url")


class Provider(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Secret
    password: Secret | None = Field(default=None, alias="pass")
    database_name: str = "main"

    @field_validator("url")
    @classmethod
    def _mongodb(cls, url: Secret) -> Secret:
        if isinstance(url, SecretStr) and not url.get_secret_value().startswith("mongodb"):
            raise ValueError(f"{url.get_secret_value()} is no URL")
        return url

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if isinstance(self.url, SecretStr) and self.url == self.password:
            raise ValueError("the URL is the password")
        return self


class Plain(BaseModel):
    database_name: str = "main"


# ── env ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "key", "variable"),
    [
        ("database/mongo", "url", "MOORINGS_SECRET_DATABASE_MONGO_URL"),
        ("a-b.c", "Key 1", "MOORINGS_SECRET_A_B_C_KEY_1"),
    ],
)
async def test_env_reads_the_variable_of_the_reference(path: str, key: str, variable: str) -> None:
    value = await EnvSecrets({variable: "s3cret"}).resolve(path, key)
    assert value.get_secret_value() == "s3cret"


@pytest.mark.parametrize(("environ", "said"), [({}, "is not set"), ("", "is empty")])
async def test_env_says_which_variable_is_missing(environ: Any, said: str) -> None:
    environ = environ if isinstance(environ, dict) else {"MOORINGS_SECRET_A_B": environ}
    with pytest.raises(SecretUnavailable, match=f"MOORINGS_SECRET_A_B {said}") as caught:
        await EnvSecrets(environ).resolve("a", "b")
    assert (caught.value.path, caught.value.key) == ("a", "b")


async def test_env_sees_a_variable_that_is_set_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mended secret heals by itself."""
    secrets = EnvSecrets()
    with pytest.raises(SecretUnavailable):
        await secrets.resolve("later", "on")
    monkeypatch.setenv("MOORINGS_SECRET_LATER_ON", "value")
    assert (await secrets.resolve("later", "on")).get_secret_value() == "value"


# ── file ─────────────────────────────────────────────────────────────────────────────────────


def store(base: Path, content: bytes, path: str = "database/mongo", key: str = "url") -> Path:
    file = base / path / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\n\n", "s3cret\n"),
        (b" s3cret ", " s3cret "),
        ("pässwörd\n".encode(), "pässwörd"),
    ],
)
async def test_file_reads_the_file_less_one_newline(
    tmp_path: Path, content: bytes, value: str
) -> None:
    store(tmp_path, content)
    found = await FileSecrets(tmp_path).resolve("database/mongo", "url")
    assert found.get_secret_value() == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"s3cret\xff", "is not UTF-8"),
        (b"s3cret" * MAX_BYTES, "is larger than"),
    ],
)
async def test_file_refuses_what_is_no_secret(tmp_path: Path, content: bytes, said: str) -> None:
    file = store(tmp_path, content)
    with pytest.raises(SecretUnavailable, match=f"{file} {said}") as caught:
        await FileSecrets(tmp_path).resolve("database/mongo", "url")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_file_says_that_it_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=r"'url' at 'database/mongo': .* does not exist"):
        await FileSecrets(tmp_path).resolve("database/mongo", "url")


async def test_file_says_why_it_cannot_be_read(tmp_path: Path) -> None:
    store(tmp_path, b"x", path="database", key="mongo")
    with pytest.raises(SecretUnavailable, match=r"cannot be read \(Is a directory\)"):
        await FileSecrets(tmp_path).resolve(".", "database")
    with pytest.raises(SecretUnavailable, match=r"cannot be read \(Not a directory\)"):
        await FileSecrets(tmp_path).resolve("database/mongo", "url")


@contextmanager
def nobody() -> Iterator[None]:
    """Be somebody who may not read everything: root becomes nobody for a while."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


async def test_file_says_that_it_may_not_be_read(tmp_path: Path) -> None:
    store(tmp_path, b"s3cret").chmod(0)
    with nobody(), pytest.raises(SecretUnavailable, match="may read"):
        await FileSecrets(tmp_path).resolve("database/mongo", "url")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("../outside", "url"),
        ("a/../../outside", "url"),
        ("/etc", "passwd"),
        ("a", "/etc/passwd"),
        ("a", "../../outside/url"),
        ("a", "url\0"),
    ],
)
async def test_file_never_leaves_its_base_path(tmp_path: Path, path: str, key: str) -> None:
    base = tmp_path / "base"
    store(tmp_path, b"s3cret", path="outside")
    store(base, b"s3cret", path="a")
    with pytest.raises(SecretUnavailable, match="leads out of"):
        await FileSecrets(base).resolve(path, key)


async def test_file_follows_the_links_that_kubernetes_makes(tmp_path: Path) -> None:
    store(tmp_path, b"old", path="mongo/..1")
    store(tmp_path, b"new", path="mongo/..2")
    mount = tmp_path / "mongo"
    (mount / "..data").symlink_to("..1")
    (mount / "url").symlink_to("..data/url")
    secrets = FileSecrets(tmp_path)
    assert (await secrets.resolve("mongo", "url")).get_secret_value() == "old"
    (mount / "..next").symlink_to("..2")
    (mount / "..next").rename(mount / "..data")
    assert (await secrets.resolve("mongo", "url")).get_secret_value() == "new"


async def test_a_hanging_mount_holds_up_nobody_who_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is abandoned on cancellation: a deadline of the caller's holds."""
    hung, freed = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def hang(file: Path) -> bytes:
        token.run_sync_soon(hung.set)
        freed.wait()
        return b""

    monkeypatch.setattr(secrets_module, "_read", hang)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FileSecrets(tmp_path).resolve, "a", "b")
            await hung.wait()
            nursery.cancel_scope.cancel()
    finally:
        freed.set()
        await trio.to_thread.run_sync(lambda: None)


# ── the backend that the settings ask for ────────────────────────────────────────────────────


def test_the_backend_follows_the_prepared_settings() -> None:
    env = SecretsSettings(backend="env", provider=EnvSecretsSettings())
    assert secrets_backend(env).name == "env"
    file = secrets_backend(SecretsSettings(backend="file", provider=FileSecretsSettings()))
    assert isinstance(file, FileSecrets)
    assert (file.name, file.base_path) == ("file", Path("/run/secrets"))


def test_settings_that_nobody_prepared_are_a_bug() -> None:
    with pytest.raises(TypeError, match="not prepared"):
        secrets_backend(SecretsSettings())


# ── whole settings ───────────────────────────────────────────────────────────────────────────


async def test_settings_without_references_come_back_as_the_same_object() -> None:
    for settings in (Plain(), Provider(url=SecretStr("mongodb://h"))):
        assert await resolve_settings(settings, EnvSecrets({})) is settings


async def test_references_are_replaced_and_the_rest_is_kept() -> None:
    settings = Provider.model_validate(
        {"url": REFERENCE, "pass": {"path": "p", "key": "k"}, "database_name": "other"}
    )
    environ = {
        "MOORINGS_SECRET_DATABASE_MONGO_URL": "mongodb://h",
        "MOORINGS_SECRET_P_K": "s3cret",
    }
    resolved = await resolve_settings(settings, EnvSecrets(environ))
    assert isinstance(resolved.url, SecretStr)
    assert isinstance(resolved.password, SecretStr)
    assert resolved.url.get_secret_value() == "mongodb://h"
    assert resolved.password.get_secret_value() == "s3cret"
    assert resolved.database_name == "other"
    assert settings.url == REFERENCE
    assert "s3cret" not in repr(resolved)


async def test_resolved_settings_are_equal_while_the_secrets_are() -> None:
    """That is how the runtime knows whether it needs a new client."""
    settings = Provider(url=REFERENCE)
    environ = {"MOORINGS_SECRET_DATABASE_MONGO_URL": "mongodb://h"}
    one = await resolve_settings(settings, EnvSecrets(environ))
    assert await resolve_settings(settings, EnvSecrets(environ)) == one
    environ["MOORINGS_SECRET_DATABASE_MONGO_URL"] = "mongodb://g"
    assert await resolve_settings(settings, EnvSecrets(environ)) != one


async def test_resolutions_are_counted_by_backend_and_result() -> None:
    seen: list[tuple[str, str]] = []
    environ = {"MOORINGS_SECRET_DATABASE_MONGO_URL": "mongodb://h"}

    def observe(provider: str, result: str) -> None:
        seen.append((provider, result))

    settings = Provider(url=REFERENCE)
    await resolve_settings(settings, EnvSecrets(environ), observe=observe)
    with pytest.raises(SecretUnavailable):
        await resolve_settings(settings, EnvSecrets({}), observe=observe)
    assert seen == [("env", "ok"), ("env", "error")]


async def test_what_the_model_refuses_is_a_settings_error_without_the_value() -> None:
    environ = {"MOORINGS_SECRET_DATABASE_MONGO_URL": "hunter22"}
    with pytest.raises(SettingsError) as caught:
        await resolve_settings(Provider(url=REFERENCE), EnvSecrets(environ))
    (problem,) = caught.value.problems
    assert problem.file == "secrets backend 'env'"
    assert problem.key == "provider.url"
    assert "is no URL" in problem.problem
    assert "hunter22" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_what_the_model_refuses_as_a_whole_is_said_of_the_table() -> None:
    settings = Provider.model_validate({"url": REFERENCE, "pass": REFERENCE})
    environ = {"MOORINGS_SECRET_DATABASE_MONGO_URL": "mongodb://h"}
    with pytest.raises(SettingsError) as caught:
        await resolve_settings(settings, EnvSecrets(environ))
    (problem,) = caught.value.problems
    assert problem.key == "provider"
    assert "the URL is the password" in problem.problem


async def test_a_resolver_leaves_settings_without_references_as_they_are() -> None:
    settings = Plain()
    assert await Resolver(EnvSecrets({}), Redactor()).resolve(settings) is settings
