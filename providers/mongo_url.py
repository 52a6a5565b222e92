"""A MongoDB URL, taken apart without looking anything up and without ever being shown.

PyMongo's own parser resolves SRV records while it parses, warns where it should refuse, and
quotes what it refuses: an unescaped `@` or `/` in a password makes the password's tail a host or a
database, which then stands in its messages. So what can hide a password is refused here first, and
of PyMongo's messages only those are passed on that quote nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

SCHEME: Final = "mongodb://"
SRV_SCHEME: Final = "mongodb+srv://"

_ESCAPE: Final = "escape user name and password as urllib.parse.quote_plus does"

_OPTION_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_]*")

# Messages of PyMongo's parser that contain nothing of what was parsed.
_QUOTES_NOTHING: Final = (
    "Username and password must be escaped",
    "The empty string is not valid username",
    "an IPv6 address literal must be enclosed",
    "Reserved characters such as ':'",
    "Port contains non-digit characters",
    "Port must be an integer",
    "Empty host",
    "Percent-encoding is only allowed",
    "Can not mix '&' and ';'",
    "MongoDB URI options are key=value pairs",
    "URI option",
    "Can not specify conflicting values",
)


@dataclass(frozen=True, slots=True)
class MongoURL:
    """The parts of a URL.

    Attributes:
        bare: the same URL without user name and password.
        hosts: its hosts, in order, as `host:port` (SRV: the one name).
        srv: whether the hosts are to be looked up.
        username: unescaped, or None.
        password: unescaped, or None.
        database: the default database, also that of authentication, or None.
        options: the options as written, by their names as written.
    """

    bare: str = field(repr=False)
    hosts: tuple[str, ...]
    srv: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    database: str | None
    options: dict[str, Any] = field(repr=False)


def parse(url: str) -> MongoURL:
    """Take `url` apart. No I/O.

    Raises:
        ValueError: it is not a MongoDB URL. The message quotes nothing of it.
    """
    srv = url.startswith(SRV_SCHEME)
    scheme = SRV_SCHEME if srv else SCHEME
    if not url.startswith(scheme):
        raise ValueError(f"the URL must begin with {SCHEME} or {SRV_SCHEME}")
    location, _, query = url.removeprefix(scheme).partition("?")
    authority, slash, database = location.partition("/")
    if "@" in database or "@" in query:
        raise ValueError(
            "the URL has an unescaped '@', '/' or '?' in its user name, password or options: "
            f"{_ESCAPE}"
        )
    hosts = authority.rpartition("@")[2]
    parsed = _parse_location(location)
    nodes = parsed["nodelist"]
    if srv and (len(nodes) != 1 or ":" in hosts):
        raise ValueError(f"a {SRV_SCHEME} URL names one host, without a port")
    return MongoURL(
        bare=f"{scheme}{hosts}{slash}{database}" + (f"?{query}" if query else ""),
        hosts=(hosts.lower(),) if srv else tuple(_address(*node) for node in nodes),
        srv=srv,
        username=parsed["username"],
        # PyMongo answers "" where there is none at all.
        password=parsed["password"] or None,
        database=parsed["database"],
        options=_parse_options(query),
    )


def _address(host: str, port: int | None) -> str:
    if port is None:
        return host  # a Unix socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_location(location: str) -> dict[str, Any]:
    # Imported when a URL is there: the driver is optional.
    from pymongo.errors import PyMongoError  # noqa: PLC0415
    from pymongo.uri_parser import parse_uri  # noqa: PLC0415

    try:
        # As a plain URL in either case, because an SRV one would be looked up.
        return parse_uri(SCHEME + location)
    except (PyMongoError, ValueError, IndexError) as error:
        raise ValueError(_safe(error)) from None


def _parse_options(query: str) -> dict[str, Any]:
    from pymongo.errors import PyMongoError  # noqa: PLC0415
    from pymongo.uri_parser import split_options  # noqa: PLC0415

    if not query:
        return {}
    names = [part.partition("=")[0] for part in re.split("[&;]", query)]
    if not all(map(_OPTION_NAME.fullmatch, names)):
        raise ValueError(f"what follows the URL's '?' is not name=value&name=value; or {_ESCAPE}")
    twice = [name for name, count in Counter(map(str.lower, names)).items() if count > 1]
    if set(twice) - {"readpreferencetags"}:
        # PyMongo warns, and takes the last. (Tag sets are a list, written one by one.)
        raise ValueError(f"the URL's options are given more than once: {', '.join(twice)}")
    try:
        options = split_options(query, validate=False, normalize=False)
    except (PyMongoError, ValueError) as error:
        raise ValueError(_safe(error)) from None
    # PyMongo's mapping iterates over names in lower case; messages should have the user's.
    return {name: options[name] for name in names}


def _safe(error: Exception) -> str:
    text = str(error)
    if any(text.startswith(known) for known in _QUOTES_NOTHING):
        return f"not a usable MongoDB URL: {text.partition(': ')[0].removesuffix('. Hint')}"
    return f"not a usable MongoDB URL: check hosts and ports, and {_ESCAPE}"
