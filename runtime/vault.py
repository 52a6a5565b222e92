"""The secrets backend `vault`: HashiCorp Vault's key-value engine, version 2, through hvac.

hvac blocks: every exchange with the server runs in a thread of its own kind, bounded by `timeout`
there, and left behind when the runtime gives up. What it says stands in `vault_session`; here are
the settings, and when a token is renewed or replaced.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypeVar

import trio
from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from ..errors import SecretUnavailable
from ..providers.references import SecretReference
from .secrets import SecretsBackend, refused
from .settings import FrozenModel, Seconds
from .vault_session import VaultRefused, VaultSession

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .secrets import Found
    from .vault_session import Login

T = TypeVar("T")

_RENEW_AT = 1 / 3
"""The share of a token's life that is left when it is renewed."""


class VaultSecretsSettings(FrozenModel):
    """`backend = "vault"`. One way to log in: a token, or a role.

    Attributes:
        address: `https://vault.example:8200`.
        mount: where the engine is mounted. The reference `{ path = "a/b", key = "c" }` is the key
            `c` of the newest version of `<mount>/data/a/b`.
        namespace: of Vault Enterprise.
        token: to log in with.
        token_file: a file that holds it; read again when the token is refused.
        role_id: to log in by AppRole.
        secret_id: of that role.
        secret_id_file: a file that holds it; read on each login.
        auth_mount: where AppRole is mounted.
        ca_file: the authorities to trust, PEM, instead of those of the package `certifi`; it is
            these, or those that `REQUESTS_CA_BUNDLE` names, and not the system's.
        timeout: how long the server may take to answer, in seconds.
        refresh: how often to look for new versions while connections use them, in seconds.
    """

    address: Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+(/[^?#@\s]*)?$")]
    mount: Annotated[str, Field(min_length=1)] = "secret"
    namespace: str | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    role_id: SecretStr | None = None
    secret_id: SecretStr | None = None
    secret_id_file: Path | None = None
    auth_mount: Annotated[str, Field(min_length=1)] = "approle"
    ca_file: Path | None = None
    timeout: Seconds = 3.0
    refresh: Seconds = 30.0

    @field_validator("address")
    @classmethod
    def _installed(cls, address: str) -> str:
        if find_spec("hvac") is None:
            raise ValueError(
                "the secrets backend 'vault' needs hvac: pip install 'moorings[vault]'"
            )
        return address

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [n for n in ("token", "token_file", "role_id") if getattr(self, n) is not None]
        if len(ways) != 1:
            said = " and ".join(ways) or "nothing"
            raise ValueError(f"one of token, token_file and role_id logs in, and {said} is given")
        secret_ids = (self.secret_id is not None) + (self.secret_id_file is not None)
        if self.role_id is None and secret_ids:
            raise ValueError("a secret_id belongs to a role_id")
        if secret_ids > 1:
            raise ValueError("secret_id and secret_id_file are both given: remove one")
        return self


class VaultSecrets(SecretsBackend):
    """Keys of the key-value engine, version 2.

    A token is renewed when a third of its life is left; one that cannot be renewed, or is refused,
    is replaced by a new login (of a role), or by what `token_file` says by then.
    """

    name: ClassVar[str] = "vault"
    settings_model: ClassVar[type[BaseModel]] = VaultSecretsSettings

    def __init__(
        self, settings: VaultSecretsSettings, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.refresh = settings.refresh
        self._settings = settings
        self._now = now
        self._login: Login | None = None
        self._logging_in = trio.Lock()
        # Of its own: a server that hangs must not use up the threads that others share.
        self._limiter = trio.CapacityLimiter(4)

    @classmethod
    def from_settings(cls, settings: VaultSecretsSettings) -> Self:
        """See `SecretsBackend`."""
        return cls(settings)

    async def resolve(self, path: str, key: str) -> SecretStr:
        """See `SecretsBackend`."""
        reference = SecretReference(path=path, key=key)
        value = (await self.resolve_all([reference]))[reference]
        if isinstance(value, SecretUnavailable):
            raise value
        return value

    async def resolve_all(self, wanted: Collection[SecretReference]) -> Found:
        """See `SecretsBackend`. Each path is read once: keys of one path are of one version."""
        outside = {reference for reference in wanted if _leads_out(reference.path)}
        found: dict[SecretReference, SecretStr | SecretUnavailable] = {
            reference: refused(reference.path, reference.key, f"the mount {self._settings.mount!r}")
            for reference in outside
        }
        inside = [reference for reference in wanted if reference not in outside]
        try:
            read = await self._read(dict.fromkeys(r.path.strip("/") for r in inside))
        except VaultRefused as error:
            return found | {reference: _unavailable(reference, error) for reference in inside}
        for reference in inside:
            outcome = read[reference.path.strip("/")]
            if isinstance(outcome, VaultRefused):
                found[reference] = _unavailable(reference, outcome)
            else:
                found[reference] = _picked(reference, outcome)
        return found

    def close(self) -> None:
        """See `SecretsBackend`. Nothing is held between two exchanges but the token."""
        self._login = None

    # -- one exchange -------------------------------------------------------------------------

    async def _read(self, paths: Collection[str]) -> dict[str, dict[str, object] | VaultRefused]:
        """What is at each path; with a new login where the present one is not accepted any more."""
        if not paths:
            return {}
        login = await self._logged_in()
        read = await self._exchange(lambda session: session.read(login.token, paths))
        if any(isinstance(o, VaultRefused) and o.forbidden for o in read.values()):
            # Forbidden, or not known any more? The server says the same of both.
            known = await self._exchange(lambda session: session.knows(login.token))
            if not known:
                login = await self._logged_in(instead_of=login)
                read = await self._exchange(lambda session: session.read(login.token, paths))
        return read

    async def _logged_in(self, *, instead_of: Login | None = None) -> Login:
        """The present login, renewed or replaced where it is due."""
        async with self._logging_in:
            login = self._login
            if login is None or login is instead_of:
                login = await self._exchange(lambda session: session.log_in())
            elif login.renew_at is not None and self._now() >= login.renew_at:
                login = await self._renewed(login)
            self._login = login
            return login

    async def _renewed(self, login: Login) -> Login:
        if login.renewable:
            try:
                return await self._exchange(lambda session: session.renew(login.token))
            except VaultRefused as error:
                if error.unreachable:  # the token may still be good
                    return login
        try:
            return await self._exchange(lambda session: session.log_in())
        except VaultRefused:
            if login.until is None or self._now() < login.until:
                return login  # good for a while yet: asked for again at the next look
            raise

    async def _exchange(self, talk: Callable[[VaultSession], T]) -> T:
        """Talk to the server in a thread, which is left behind on cancellation."""
        settings, now = self._settings, self._now

        def exchange() -> T:
            # Of its own each time: no socket is left to go stale between two looks, and a thread
            # that was left behind shares nothing with those after it.
            with VaultSession(settings, now, _RENEW_AT) as session:
                return talk(session)

        return await trio.to_thread.run_sync(
            exchange, abandon_on_cancel=True, limiter=self._limiter
        )


def _leads_out(path: str) -> bool:
    return ".." in path.split("/") or not path.strip("/")


def _picked(reference: SecretReference, data: dict[str, object]) -> SecretStr | SecretUnavailable:
    value = data.get(reference.key)
    if isinstance(value, str) and value:
        return SecretStr(value)
    if reference.key not in data:
        problem, cure = "Vault has no such key at this path", "Write it, or mend the reference"
    elif value == "":
        problem, cure = "it is empty in Vault", "Give it a value"
    else:
        problem, cure = "it is no text in Vault", "Store it as a JSON string"
    return SecretUnavailable(reference.path, reference.key, problem, cure)


def _unavailable(reference: SecretReference, error: VaultRefused) -> SecretUnavailable:
    return SecretUnavailable(reference.path, reference.key, error.problem, error.cure)
