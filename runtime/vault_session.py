"""One exchange with a Vault server, in a thread: what is asked, and what its refusals mean.

hvac's errors quote the server and requests' errors the address; neither is passed on or chained:
what is said instead names the cause and the cure, and can hold no secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from .vault import VaultSecretsSettings


class VaultRefused(Exception):
    """The server did not do what it was asked, or could not be asked.

    Attributes:
        problem: what is wrong.
        cure: what to do about it.
        forbidden: it does not accept the token, or not for this.
        unreachable: nothing else can be asked of it now.
    """

    def __init__(
        self, problem: str, cure: str, *, forbidden: bool = False, unreachable: bool = False
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure
        self.forbidden = forbidden
        self.unreachable = unreachable


@dataclass(frozen=True, eq=False)
class Login:
    """A token, and how long it is good for.

    Attributes:
        token: what the server knows us by.
        renewable: whether it may be renewed.
        renew_at: when it has to be renewed, or replaced; None: never.
        until: when it expires; None: never.
    """

    token: str = field(repr=False)
    renewable: bool
    renew_at: float | None
    until: float | None = None


class VaultSession:
    """A connection to the server, for one exchange.

    Args:
        settings: where it is, and who we are.
        now: the clock that `Login.renew_at` goes by.
        renew_at: the share of a token's life that is left when it has to be renewed.
    """

    def __init__(
        self, settings: VaultSecretsSettings, now: Callable[[], float], renew_at: float
    ) -> None:
        import hvac  # noqa: PLC0415 - optional, and slow to import

        self._settings = settings
        self._now = now
        self._renew_at = renew_at
        self._client = hvac.Client(
            url=settings.address,
            token="",
            verify=True if settings.ca_file is None else str(settings.ca_file),
            timeout=settings.timeout,
            namespace=settings.namespace,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.adapter.close()

    def log_in(self) -> Login:
        """A new login, by the settings.

        Raises:
            VaultRefused: what they say is not accepted, or the server cannot be asked.
        """
        settings = self._settings
        if settings.role_id is None:
            return self._with_token()
        secret_id = settings.secret_id.get_secret_value() if settings.secret_id else None
        if settings.secret_id_file is not None:
            secret_id = _content(settings.secret_id_file, "secret_id_file")
        role_id = settings.role_id.get_secret_value()
        auth = self._asked(
            lambda: self._client.auth.approle.login(
                role_id, secret_id, use_token=False, mount_point=settings.auth_mount
            ),
            at=f"auth/{settings.auth_mount}",
            login="the role",
        )
        return self._login(auth, "auth")

    def renew(self, token: str) -> Login:
        """The same token, for longer; errors as `log_in`."""
        self._client.token = token
        reply = self._asked(self._client.auth.token.renew_self, at="auth/token")
        login = self._login(reply, "auth")
        return replace(login, token=token)

    def knows(self, token: str) -> bool:
        """Whether the server accepts the token at all; errors as `log_in`."""
        self._client.token = token
        try:
            self._asked(self._client.auth.token.lookup_self, at="auth/token")
        except VaultRefused as error:
            if error.forbidden:
                return False
            raise
        return True

    def read(self, token: str, paths: Iterable[str]) -> dict[str, dict[str, object] | VaultRefused]:
        """The newest version at each path, or why it cannot be read.

        Raises:
            VaultRefused: the server cannot be asked.
        """
        self._client.token = token
        found: dict[str, dict[str, object] | VaultRefused] = {}
        for path in paths:
            try:
                found[path] = self._read_one(path)
            except VaultRefused as error:
                found[path] = error
                if error.unreachable:
                    # The others would each take as long to fail.
                    return found | dict.fromkeys((p for p in paths if p not in found), error)
        return found

    def _read_one(self, path: str) -> dict[str, object]:
        mount = self._settings.mount.strip("/")
        reply = self._asked(
            lambda: self._client.secrets.kv.v2.read_secret_version(
                path, mount_point=mount, raise_on_deleted_version=True
            ),
            at=f"{mount}/data/{path}",
        )
        data = _at(reply, "data", "data")
        if isinstance(data, dict):
            return data
        raise VaultRefused(
            f"{mount}/data/{path} holds no key-value pairs of version 2",
            "Set `mount` to an engine of type kv, version 2",
        )

    def _with_token(self) -> Login:
        settings = self._settings
        if settings.token_file is not None:
            token = _content(settings.token_file, "token_file")
        else:
            token = settings.token.get_secret_value() if settings.token else ""
        self._client.token = token
        reply = self._asked(self._client.auth.token.lookup_self, at="auth/token", login="the token")
        seconds = _at(reply, "data", "ttl")
        return Login(token, bool(_at(reply, "data", "renewable")), *self._due(seconds))

    def _login(self, reply: Any, part: str) -> Login:
        token = _at(reply, part, "client_token")
        if not isinstance(token, str) or not token:
            raise VaultRefused(f"{self._settings.address} does not answer as Vault does", _MEND)
        renewable = bool(_at(reply, part, "renewable"))
        return Login(token, renewable, *self._due(_at(reply, part, "lease_duration")))

    def _due(self, seconds: object) -> tuple[float | None, float | None]:
        if not isinstance(seconds, int | float) or seconds <= 0:
            return None, None  # a root token, say, which never expires
        now = self._now()
        return now + seconds * (1.0 - self._renew_at), now + seconds

    def _asked(self, ask: Callable[[], Any], *, at: str, login: str = "") -> Any:
        """What `ask` returns; its errors as ours."""
        import requests  # noqa: PLC0415 - as hvac, which is made of it
        from hvac.exceptions import VaultError  # noqa: PLC0415

        try:
            return ask()
        except VaultError as error:
            refusal = self._meaning(error, at, login)
        except (requests.RequestException, OSError, ValueError) as error:
            refusal = self._unreachable(error)
        # Raised outside of the handlers: what is chained quotes requests and replies.
        raise refusal

    def _meaning(self, error: Exception, at: str, login: str) -> VaultRefused:
        """What an answer of the server's means; `at`: what was asked, `login`: with what."""
        vault, forbidden, unreachable = f"Vault at {self._settings.address}", False, False
        match type(error).__name__:
            case "Forbidden" | "Unauthorized" | "InvalidRequest" if login:
                problem = f"{vault} does not accept {login}"
                cure = f"Give it {login} that is valid, or see whether it has expired"
                forbidden = True
            case "Forbidden" | "Unauthorized":
                problem = f"{vault} forbids {at}"
                cure, forbidden = "Let the policy of the token, or of the role, read it", True
            case "InvalidPath" if login:
                problem = f"{vault} has nothing at {at} to log in with"
                cure = "Mend `namespace`, or `auth_mount`"
            case "InvalidPath":
                problem = f"{vault} has nothing at {at}"
                cure = "Write the secret, or mend `mount` or the reference"
            case "VaultDown" | "VaultNotInitialized":
                problem = f"{vault} is sealed, not initialised or in maintenance"
                cure, unreachable = "Unseal it, or see its log", True
            case "RateLimitExceeded":
                problem = f"{vault} limits our rate"
                cure, unreachable = "Raise `refresh`, or its quota", True
            case name:
                problem, cure = f"{vault} fails at {at} ({name})", "See its log"
        return VaultRefused(problem, cure, forbidden=forbidden, unreachable=unreachable)

    def _unreachable(self, error: Exception) -> VaultRefused:
        import requests  # noqa: PLC0415

        address, seconds = self._settings.address, self._settings.timeout
        match error:
            case requests.exceptions.SSLError():
                problem = f"Vault at {address} does not prove who it is (TLS)"
                cure = (
                    "Set `ca_file` to the authority that signed its certificate, and `address` to "
                    "a name that stands in it"
                )
            case requests.exceptions.Timeout():
                problem, cure = f"Vault at {address} did not answer within {seconds:g} s", _MEND
            case requests.exceptions.RequestException():
                problem, cure = f"Vault at {address} cannot be reached", _MEND
            case OSError():  # not the network's: those are requests' own
                problem = f"Vault at {address} was not asked: `ca_file` cannot be used"
                cure = "Set it to a file of authorities in PEM that may be read"
            case _:
                problem = f"Vault at {address} cannot be asked with these settings"
                cure = "Write `address` and what logs in in plain ASCII"
        return VaultRefused(problem, cure, unreachable=True)


_MEND = "See whether it is up, and whether `address` is right"


def _content(file: Path, key: str) -> str:
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = type(error).__name__ if isinstance(error, UnicodeDecodeError) else error.strerror
    else:
        if text:
            return text
        why = "it is empty"
    raise VaultRefused(f"{file} cannot be used: {why}", f"Mend it, or set `{key}` to another file")


def _at(reply: Any, *keys: str) -> Any:
    for key in keys:
        reply = reply.get(key) if isinstance(reply, dict) else None
    return reply
