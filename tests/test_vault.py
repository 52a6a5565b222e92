"""The secrets backend `vault`, against a stand-in of its server over real HTTP."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from leftovers import threads
from pydantic import ValidationError
from vault_standin import ROLE_ID, ROOT, SECRET_ID, Token, Vault

from moorings.errors import FailureReason, SecretUnavailable
from moorings.providers.references import SecretReference
from moorings.runtime.state import State
from moorings.runtime.vault import VaultSecrets, VaultSecretsSettings

if TYPE_CHECKING:
    from pathlib import Path

    from scripted import World

PASSWORD = SecretReference(path="database/mongo", key="password")
URL = SecretReference(path="database/mongo", key="url")


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def backend(vault: Vault, clock: Clock | None = None, **settings: Any) -> VaultSecrets:
    if not {"token", "token_file", "role_id"} & settings.keys():
        settings["token"] = ROOT
    found = VaultSecretsSettings(address=vault.address, **settings)
    return VaultSecrets(found, now=clock or Clock())


def by_role(vault: Vault, clock: Clock | None = None, **settings: Any) -> VaultSecrets:
    return backend(vault, clock, role_id=ROLE_ID, secret_id=SECRET_ID, **settings)


async def password(secrets: VaultSecrets) -> str:
    return (await secrets.resolve("database/mongo", "password")).get_secret_value()


async def refusal(secrets: VaultSecrets, path: str = "database/mongo", key: str = "url") -> str:
    with pytest.raises(SecretUnavailable) as caught:
        await secrets.resolve(path, key)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


# -- reading --------------------------------------------------------------------------------------


async def test_a_reference_is_a_key_of_the_newest_version(vault: Vault) -> None:
    secrets = backend(vault)
    assert await password(secrets) == "first-pässword"
    vault.put("database/mongo", password="second")
    assert await password(secrets) == "second"


async def test_keys_of_one_path_are_read_together(vault: Vault) -> None:
    """So that a user and a password are of one version."""
    found = await backend(vault).resolve_all([PASSWORD, URL])
    assert {type(value).__name__ for value in found.values()} == {"SecretStr"}
    assert vault.count("read") == 1


async def test_one_path_that_is_missing_leaves_the_others_alone(vault: Vault) -> None:
    missing = SecretReference(path="not/there", key="x")
    found = await backend(vault).resolve_all([missing, PASSWORD])
    assert isinstance(found[missing], SecretUnavailable)
    assert not isinstance(found[PASSWORD], SecretUnavailable)


@pytest.mark.parametrize(
    ("path", "key", "said"),
    [
        ("database/mongo", "user", "Vault has no such key at this path. Write it"),
        ("database/other", "url", r"has nothing at secret/data/database/other. Write the secret"),
        ("database/odd", "list", "it is no text in Vault. Store it as a JSON string"),
        ("database/odd", "empty", "it is empty in Vault. Give it a value"),
        ("../sys/policy", "x", "leads out of the mount 'secret'"),
        ("/", "x", "leads out of the mount 'secret'"),
    ],
)
async def test_what_leads_nowhere_says_what_to_do(
    vault: Vault, path: str, key: str, said: str
) -> None:
    vault.put("database/odd", list=["first-pässword"], empty="")
    text = await refusal(backend(vault), path, key)
    assert said in text
    assert "first-pässword" not in text


async def test_a_namespace_is_passed_on(vault: Vault) -> None:
    vault.namespace = "team"
    assert "to log in with. Mend `namespace`" in await refusal(backend(vault))
    assert await password(backend(vault, namespace="team")) == "first-pässword"


# -- logging in -----------------------------------------------------------------------------------


async def test_a_token_that_is_not_known_is_said(vault: Vault) -> None:
    text = await refusal(backend(vault, token="hvs.unknown"))
    assert "does not accept the token" in text
    assert "hvs.unknown" not in text


async def test_what_the_policy_forbids_is_said(vault: Vault) -> None:
    vault.tokens["weak"] = Token(may_read=False)
    text = await refusal(backend(vault, token="weak"))
    assert "forbids secret/data/database/mongo. Let the policy" in text


async def test_a_role_logs_in_once(vault: Vault) -> None:
    secrets = by_role(vault)
    for _ in range(3):
        await password(secrets)
    assert vault.calls == ["login", "read", "read", "read"]


async def test_a_role_that_is_not_accepted_is_said(vault: Vault) -> None:
    text = await refusal(backend(vault, role_id=ROLE_ID, secret_id="hunter-2"))
    assert "does not accept the role" in text
    assert "hunter-2" not in text


async def test_a_revoked_token_is_replaced_by_a_new_login(vault: Vault) -> None:
    secrets = by_role(vault)
    await password(secrets)
    vault.revoke_all()
    assert await password(secrets) == "first-pässword"
    assert vault.count("login") == 2


async def test_a_token_is_renewed_before_it_expires(vault: Vault) -> None:
    clock = Clock()
    secrets = by_role(vault, clock)
    await password(secrets)
    clock.now = 3600 * 0.6
    await password(secrets)
    assert vault.count("renew") == 0
    clock.now = 3600 * 0.7
    await password(secrets)
    await password(secrets)
    assert (vault.count("renew"), vault.count("login")) == (1, 1)


async def test_a_token_that_cannot_be_renewed_is_replaced_in_time(vault: Vault) -> None:
    clock, vault.renewable = Clock(), False
    secrets = by_role(vault, clock)
    await password(secrets)
    clock.now = 3000
    await password(secrets)
    assert (vault.count("renew"), vault.count("login")) == (0, 2)


async def test_a_renewal_that_is_refused_is_a_new_login(vault: Vault) -> None:
    clock = Clock()
    secrets = by_role(vault, clock)
    await password(secrets)
    vault.revoke_all()
    clock.now = 3000
    assert await password(secrets) == "first-pässword"
    assert (vault.count("renew"), vault.count("login")) == (1, 2)


async def test_files_are_read_again_when_they_are_needed(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{ROOT}\n")
    secrets = backend(vault, token_file=file)
    assert await password(secrets) == "first-pässword"
    vault.tokens = {"hvs.next": Token()}
    assert "does not accept the token" in await refusal(secrets)
    file.write_text("hvs.next")
    assert await password(secrets) == "first-pässword"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"", "it is empty")])
async def test_a_file_that_cannot_be_used_is_said(
    vault: Vault, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "secret_id"
    if content is not None:
        file.write_bytes(content)
    text = await refusal(backend(vault, role_id=ROLE_ID, secret_id_file=file))
    assert f"{file} cannot be used: {said}" in text
    assert "secret_id_file" in text


# -- a server that is not there -------------------------------------------------------------------


async def test_a_sealed_server_is_said_and_heals(vault: Vault) -> None:
    secrets = backend(vault)
    vault.sealed = True
    assert "is sealed, not initialised or in maintenance. Unseal it" in await refusal(secrets)
    vault.sealed = False
    assert await password(secrets) == "first-pässword"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "limits our rate. Raise `refresh`"),
        (500, "fails at secret/data/database/mongo (InternalServerError). See its log"),
        (501, "is sealed, not initialised"),
    ],
)
async def test_other_refusals_are_said(vault: Vault, status: int, said: str) -> None:
    secrets = backend(vault)
    await password(secrets)
    vault.status = status
    assert said in await refusal(secrets)


async def test_a_login_is_kept_while_the_server_is_sealed(vault: Vault) -> None:
    """Though it was to be renewed by then: it may still be good."""
    clock = Clock()
    secrets = by_role(vault, clock)
    await password(secrets)
    vault.sealed, clock.now = True, 3000
    assert "sealed" in await refusal(secrets)
    vault.sealed = False
    assert await password(secrets) == "first-pässword"
    assert (vault.count("renew"), vault.count("login")) == (1, 1)


async def test_what_cannot_be_sent_is_said(vault: Vault) -> None:
    assert "in plain ASCII" in await refusal(backend(vault, token="hvs.€"))


async def test_a_server_that_is_down_is_said(vault: Vault) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = VaultSecretsSettings(address=f"http://127.0.0.1:{port}", token=ROOT)
    assert f"Vault at http://127.0.0.1:{port} cannot be reached" in await refusal(
        VaultSecrets(settings)
    )


async def test_a_silent_server_is_bounded(vault: Vault) -> None:
    vault.silent = True
    with trio.fail_after(10):
        assert "did not answer within 0.2 s" in await refusal(backend(vault, timeout=0.2))


async def test_another_web_server_is_said(vault: Vault) -> None:
    vault.garbage = True
    assert "version 2" in await refusal(backend(vault))
    assert "does not answer as Vault does" in await refusal(by_role(vault))


async def test_whoever_gives_up_leaves_a_silent_server_behind(vault: Vault) -> None:
    """Cancelled at once, although hvac blocks; the thread ends by its own bound."""
    secrets, before = backend(vault, timeout=1.0), threads()
    vault.silent = True
    with trio.fail_after(0.9), trio.move_on_after(0.1) as scope:
        await secrets.resolve("database/mongo", "url")
    assert scope.cancelled_caught
    vault.stop()
    with trio.fail_after(10):
        while threads() - before:
            await trio.sleep(0.01)


async def test_without_a_ca_file_the_authorities_are_those_of_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`certifi`'s, or a variable's; OpenSSL's own variable stands for the system's."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    vault = Vault()
    vault.put("database/mongo", password="over TLS")
    vault.start(context)
    try:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert "does not prove who it is (TLS)" in await refusal(backend(vault))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
        assert await password(backend(vault)) == "over TLS"
    finally:
        vault.stop()


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for ca, name in ((authority, "ca.pem"), (other, "other.pem")):
        ca.cert_pem.write_to_path(tmp_path / name)
    vault = Vault()
    vault.put("database/mongo", password="over TLS")
    vault.start(context)
    try:
        assert await password(backend(vault, ca_file=tmp_path / "ca.pem")) == "over TLS"
        said = await refusal(backend(vault, ca_file=tmp_path / "other.pem"))
        assert "does not prove who it is (TLS). Set `ca_file`" in said
        said = await refusal(backend(vault, ca_file=tmp_path / "missing.pem"))
        assert "`ca_file` cannot be used" in said
    finally:
        vault.stop()


async def test_nothing_of_the_environment_logs_in(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the settings say holds, whatever Vault's own command line would use."""
    monkeypatch.setenv("VAULT_TOKEN", ROOT)
    assert "does not accept the token" in await refusal(backend(vault, token="other"))


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "nothing is given"),
        ({"token": "t", "role_id": "r"}, "token and role_id is given"),
        ({"token": "t", "secret_id": "s"}, "belongs to a role_id"),
        ({"role_id": "r", "secret_id": "s", "secret_id_file": "f"}, "remove one"),
        ({"token": "t", "address": "vault:8200"}, "address"),
        ({"token": "t", "address": "https://u:hunter2@vault"}, "address"),
    ],
)
def test_settings_ask_for_one_way_to_log_in(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        VaultSecretsSettings.model_validate({"address": "https://vault:8200"} | settings)
    assert "hunter2" not in str(caught.value)


def test_without_hvac_the_settings_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorings.runtime.vault.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"pip install 'moorings\[vault\]'"):
        VaultSecretsSettings(address="https://vault:8200", token="t")


def test_no_repr_shows_a_secret(vault: Vault) -> None:
    secrets = backend(vault, token="hvs.hidden")
    assert "hidden" not in repr(secrets._settings)


# -- with connections -----------------------------------------------------------------------------


def settings(world: World, vault: Vault, **provider: Any) -> dict[str, Any]:
    found = world.settings(
        provider={"password": {"path": "database/mongo", "key": "password"}},
        supervision={"backoff_initial": 60.0, "backoff_max": 60.0},
    )
    provider = {"address": vault.address, "role_id": ROLE_ID, "secret_id": SECRET_ID} | provider
    found["default"]["security"] = {"secrets": {"backend": "vault", "provider": provider}}
    return found


async def test_a_new_version_gets_a_new_client(world: World, vault: Vault) -> None:
    async with world.open_settings(settings(world, vault, refresh=0.1)) as manager:
        await manager.get_database()
        vault.put("database/mongo", password="second")
        with trio.fail_after(10):
            while manager["db"].generation < 2:
                await manager["db"].next_change()
        assert world["db"].client.settings.password.get_secret_value() == "second"
        assert world.path() == ["start", "established"]


async def test_a_vault_that_is_down_at_the_start_is_a_reason_and_heals(
    world: World, vault: Vault
) -> None:
    vault.sealed = True
    async with world.open_settings(settings(world, vault, refresh=0.1)) as manager:
        await world.until(manager["db"], State.FAILED)
        status = manager["db"].status
        assert status.reason is FailureReason.SECRET
        assert "sealed" in (status.error or "")
        assert SECRET_ID not in (status.error or "")
        vault.sealed = False
        with trio.fail_after(10):
            await manager.get_database()


async def test_no_log_shows_what_logs_in_or_what_is_read(
    world: World, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """With everything at DEBUG, the HTTP client's own log among it."""
    caplog.set_level(logging.DEBUG)
    async with world.open_settings(settings(world, vault, refresh=0.1)) as manager:
        await manager.get_database()
        token = next(iter(vault.tokens.keys() - {ROOT}))
        vault.put("database/mongo", password="second-password")
        with trio.fail_after(10):
            while manager["db"].generation < 2:
                await manager["db"].next_change()
        vault.sealed = True
        await trio.sleep(0.3)
    assert "/v1/secret/data/database/mongo" in caplog.text  # the control: it is in there
    assert "Vault is sealed" not in caplog.text
    for value in (ROLE_ID, SECRET_ID, token, "first-pässword", "second-password"):
        assert value not in caplog.text
