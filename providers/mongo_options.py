"""The driver's own options, checked before there is a client.

PyMongo answers an unknown option, or a bad value in a URL, with a warning and goes on without it.
Here both are errors. Names are the driver's URI option names in any case (`connectTimeoutMS`);
values may be strings, as in a URL, or what TOML has for them.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OWNED: Final = {
    "connect": "Moorings decides when to connect",
    "event_listeners": "Moorings listens itself",
    "driver": "Moorings says in the handshake what it is",
    "host": "hosts stand in `url`",
    "port": "ports stand in `url`",
    "username": "it has a key of its own, `username`",
    "password": "it has a key of its own, `password`, which also takes a reference",
    "tlscertificatekeyfilepassword": "it has a key of its own, `certificate_key_file_password`, "
    "which also takes a reference",
    "proxypassword": "the driver does not know it",
}

_OBJECTS: Final = frozenset(
    {
        "auto_encryption_opts",
        "document_class",
        "read_preference",
        "server_api",
        "server_selector",
        "srv_host_validator",
        "type_registry",
        "tzinfo",
    }
)
"""Options that take Python objects."""

_FILES: Final = frozenset({"tlscafile", "tlscertificatekeyfile", "tlscrlfile"})
"""Options that name files. Whether one can be read is the machine's affair, found out on opening:
a certificate that is mounted a moment later must not be a fault of the settings."""

_MAY_HOLD_SECRETS: Final = frozenset({"authmechanismproperties"})


def problems(options: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with `options`, one sentence each. None quotes a value."""
    for name, value in options.items():
        if problem := _problem(name, value):
            yield problem


def is_tls(name: str) -> bool:
    """Whether the option is one of those that `tls` stands for."""
    return name.lower().startswith("tls") or name.lower() == "ssl"


def _problem(name: str, value: Any) -> str | None:
    from pymongo.common import VALIDATORS  # noqa: PLC0415 - the driver is optional

    key = name.lower()
    if key in _OWNED:
        return f"{name!r} cannot be set here: {_OWNED[key]}"
    if key in _OBJECTS:
        return f"{name!r} takes a Python object, which settings cannot hold"
    if key not in VALIDATORS:
        return f"{name!r} is no option of the driver{_nearest(key, VALIDATORS)}"
    return _bad_value(name, key, value)


def _bad_value(name: str, key: str, value: Any) -> str | None:
    if key in _FILES:
        return None if isinstance(value, str) and value else f"{name!r} must be a file's path"
    if key == "authsource" and not value:
        return f"{name!r} must not be empty"
    if key in _MAY_HOLD_SECRETS and "AWS_SESSION_TOKEN" in str(value):
        return f"{name!r} holds a secret: put it into `url`, which also takes a reference"
    return _refused_by_driver(name, key, value)


def _refused_by_driver(name: str, key: str, value: Any) -> str | None:
    from pymongo.common import validate  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        validate(name, value)
    except (PyMongoError, ValueError, TypeError, AttributeError) as error:
        if key in _MAY_HOLD_SECRETS:
            return f"{name!r} has a bad value"
        # The driver's explanation without the value: that may be part of a URL.
        return f"{name!r} has a bad value ({str(error).replace(str(value), '…')})"
    return None


def _nearest(key: str, known: Mapping[str, object]) -> str:
    # As `connect_timeout_ms` is often written, too.
    near = difflib.get_close_matches(key.replace("_", ""), known, n=1)
    return f" (did you mean {_spelling(near[0])!r}?)" if near else ""


def _spelling(key: str) -> str:
    """The driver's own spelling of an option in lower case."""
    from pymongo.uri_parser_shared import URI_OPTIONS  # noqa: PLC0415 - the driver is optional

    return next((name for name in URI_OPTIONS if name.lower() == key), key)
