"""The `[….provider]` tables of the backends for MongoDB, and what the driver is given for them."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from . import mongo_url
from .mongo_options import is_tls, problems
from .mongo_tls import TlsSettings, driver_options
from .references import Secret, SecretReference

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

_TLS_FILES: Final = ("tlsCAFile", "tlsCertificateKeyFile", "tlsCRLFile")

_ASYNC_SINCE: Final = (4, 13)
"""The PyMongo whose asynchronous API is no beta any more."""

_DEFAULTS: Final[dict[str, Any]] = {
    # The driver's 20 s make a frozen server show itself only after 26 s; see also heartbeats.
    "connectTimeoutMS": 3000,
}


class MaskedString(str):
    """A string whose `repr` hides it, for what the driver keeps.

    PyMongo shows options and credentials in its reprs, and traceback renderers show locals.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


class DriverSettings(BaseModel):
    """How to reach a MongoDB, and which database of it.

    Checked here, without the network: the URL (once it is known: a reference is checked after its
    resolution), every driver option in it and in `options`, and that they go together.

    Attributes:
        url: `mongodb://…` or `mongodb+srv://…`, with or without credentials, or a reference.
        database_name: the database that applications get.
        username: instead of the URL's.
        password: instead of the URL's.
        tls: true, false, or a table; None leaves it to the URL.
        certificate_key_file_password: of `tls.certificate_key_file`. It stands here and not in
            that table because references are resolved on this level.
        options: any further driver options by their URI names, in any case; they win over the
            URL's.
    """

    model_config = _FROZEN
    backend: ClassVar[str]

    url: Secret
    database_name: Annotated[str, Field(min_length=1, max_length=63)]
    username: Secret | None = None
    password: Secret | None = None
    tls: bool | TlsSettings | None = None
    certificate_key_file_password: Secret | None = None
    options: Annotated[dict[str, Any], Field(default_factory=dict)]

    @field_validator("url")
    @classmethod
    def _usable_url(cls, url: Secret) -> Secret:
        cls._require_driver()
        if isinstance(url, SecretStr):
            _refuse(problems(mongo_url.parse(url.get_secret_value()).options))
        return url

    @field_validator("database_name")
    @classmethod
    def _possible_name(cls, name: str) -> str:
        if re.search(r'[\s/\\."$\x00]', name):
            raise ValueError("a database's name has no white space and none of / \\ . \" $")
        return name

    @field_validator("options")
    @classmethod
    def _known_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        cls._require_driver()
        _refuse(problems(options))
        return options

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tls is not None and (doubled := sorted(filter(is_tls, self.options))):
            raise ValueError(f"said twice, in `tls` and in `options`: {', '.join(doubled)}")
        if isinstance(self.url, SecretStr):
            if self.password and not (self.username or self.parsed_url.username):
                raise ValueError("a password is given, but no user name: set `username` too")
            _rehearse(self)
        return self

    @classmethod
    @abstractmethod
    def _require_driver(cls) -> None:
        """Raise ValueError unless what the backend is made of is installed."""

    @property
    def parsed_url(self) -> mongo_url.MongoURL:
        """The URL's parts; only when it is not a reference (any more)."""
        return mongo_url.parse(_plain(self.url) or "")

    @property
    def replica_set(self) -> str | None:
        """The set's name, as far as URL and options say one."""
        name = _get(self._given(), "replicaset")
        return None if name is None else str(name)

    @property
    def uses_tls(self) -> bool:
        """Whether the driver will speak TLS; with SRV that is its default."""
        match self.tls:
            case TlsSettings(enabled=enabled) | bool(enabled):
                return enabled
        given = self._given()
        said = [value for name in ("tls", "ssl") if (value := _get(given, name)) is not None]
        return any(str(v).lower() == "true" for v in said) if said else self.parsed_url.srv

    @property
    def certificate_key_file(self) -> str | None:
        """The PEM file of the client's own certificate, wherever the settings name it."""
        if isinstance(self.tls, TlsSettings) and self.tls.certificate_key_file:
            return self.tls.certificate_key_file
        file = _get(self._given(), "tlsCertificateKeyFile")
        return None if file is None else str(file)

    @property
    def tls_files(self) -> tuple[str, ...]:
        """Every file that the driver reads when a client is made, wherever the settings name it."""
        said = self._given() | self._tls_options()
        return tuple(str(file) for name in _TLS_FILES if (file := _get(said, name)) is not None)

    def secrets(self) -> frozenset[str]:
        """Every secret value that these settings hold, for redaction."""
        values = {_plain(self.password), _plain(self.certificate_key_file_password)}
        if isinstance(self.url, SecretStr):
            values |= {self.url.get_secret_value(), self.parsed_url.password}
        return frozenset(value for value in values if value)

    def driver_arguments(self, *, appname: str) -> tuple[str, dict[str, Any]]:
        """The URL without credentials, and the keyword arguments, to make a client with.

        Args:
            appname: what to call ourselves in the server's log when the settings do not say.
        """
        url = self.parsed_url
        arguments = _without(_DEFAULTS | {"appname": appname[:128]}, self._given())
        arguments |= self.options | self._credentials(url) | self._tls_options()
        return url.bare, arguments

    def _given(self) -> dict[str, Any]:
        from_url = self.parsed_url.options if isinstance(self.url, SecretStr) else {}
        return {k: v for k, v in from_url.items() if _get(self.options, k) is None} | self.options

    def _credentials(self, url: mongo_url.MongoURL) -> dict[str, Any]:
        username = _plain(self.username) or url.username
        password = _plain(self.password) or url.password
        found: dict[str, Any] = {}
        if username:
            found["username"] = username
        if password:
            found["password"] = MaskedString(password)
        return found

    def _tls_options(self) -> dict[str, Any]:
        found = driver_options(self.tls)
        if key_password := _plain(self.certificate_key_file_password):
            found["tlsCertificateKeyFilePassword"] = MaskedString(key_password)
        return found


class MongoSettings(DriverSettings):
    """The `[….provider]` table of the backend `mongo`.

    Attributes:
        threads: how many calls may be under way at once, 1 to 1024. Threads are made on demand.
    """

    backend: ClassVar[str] = "mongo"

    threads: Annotated[int, Field(ge=1, le=1024)] = 64

    @classmethod
    def _require_driver(cls) -> None:
        _require_installed(cls.backend, "pymongo", "motor")


class PyMongoSettings(DriverSettings):
    """The `[….provider]` table of the backend `pymongo`: as that of `mongo`, without `threads`."""

    backend: ClassVar[str] = "pymongo"

    @model_validator(mode="before")
    @classmethod
    def _no_threads(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "threads" in given:
            raise ValueError(
                "the backend 'pymongo' waits without threads: remove `threads`. How many calls "
                "may be under way at once is limited by `options.maxPoolSize`"
            )
        return given

    @classmethod
    def _require_driver(cls) -> None:
        _require_installed(cls.backend, "pymongo")
        from pymongo import version, version_tuple  # noqa: PLC0415 - the driver is optional

        if version_tuple[:2] < _ASYNC_SINCE:
            needed = ".".join(map(str, _ASYNC_SINCE))
            raise ValueError(
                f"the backend 'pymongo' needs PyMongo {needed} or later, not {version}: "
                "pip install 'moorings[pymongo]'"
            )


def _require_installed(backend: str, *packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the backend {backend!r} needs {' and '.join(missing)}: "
            f"pip install 'moorings[{backend}]'"
        )


def _refuse(found: Any) -> None:
    if text := "; ".join(found):
        raise ValueError(text)


def _rehearse(settings: DriverSettings) -> None:
    """Make a client that never connects: the driver checks what goes together, and what not.

    Without TLS, whose files are read on opening, and without looking an SRV name up.
    """
    from pymongo import MongoClient  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    from .mongo_errors import redact  # noqa: PLC0415

    url, arguments = settings.parsed_url, settings._credentials(settings.parsed_url)  # noqa: SLF001
    for name in ("username", "password"):
        if isinstance(getattr(settings, name), SecretReference):
            arguments[name] = "resolved later"
    options = {
        name: value
        for name, value in settings._given().items()  # noqa: SLF001 - one unit
        if not is_tls(name) and not (url.srv and name.lower().startswith("srv"))
    }
    location = mongo_url.SCHEME + url.bare.partition("://")[2].partition("?")[0]
    try:
        MongoClient(location, connect=False, **options, **arguments).close()
    except (PyMongoError, ValueError, TypeError) as error:
        secrets = settings.secrets()
        raise ValueError(f"the driver refuses: {redact(str(error), secrets)}") from None


def _plain(secret: SecretStr | SecretReference | None) -> str | None:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else None


def _get(options: dict[str, Any], key: str) -> Any:
    return next((value for name, value in options.items() if name.lower() == key.lower()), None)


def _without(options: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if _get(present, name) is None}
