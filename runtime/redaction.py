"""Keeps secrets out of everything that people read: messages, log records, tracebacks, pages.

Two nets, since each has holes of its own. Secrets that are known (because they were resolved, or
stand in the settings) are removed wherever they turn up, URL-encoded and escaped forms included;
and the `user:password@` of anything that looks like a URL goes, known or not.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

MASK = "**********"

# Anything shorter would be found inside innocent words, and make texts unreadable.
MIN_LENGTH = 4

# An unescaped "/", "@" or quote in a password is a classic slip, and its tail would then pass for
# the host: in a MongoDB URL everything up to the last "@" of the word goes.
_MONGODB_USERINFO = re.compile(r"(mongodb(?:\+srv)?://)\S*@", re.IGNORECASE)
_USERINFO = re.compile(r'(://)[^\s/?#"<>]*@')
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://(.*)", re.DOTALL)
# What an option or a key is called whose value is a secret.
_SENSITIVE = r"password|passwd|secret|token|credential|authmechanismproperties"
SECRET_NAME = re.compile(_SENSITIVE, re.IGNORECASE)
_SECRET_OPTION = re.compile(rf"(?<=[?&;])(\w*(?:{_SENSITIVE})\w*)=[^&;\s\"']*", re.IGNORECASE)
# What may stand before the "?" of a URL that has no credentials.
_HOSTS_AND_PATH = re.compile(r"[^:@/]*(:\d*)?(,[^:@/]*(:\d*)?)*(/[^@]*)?")

# What logging itself puts on a record: a `Filter` leaves alone what no caller can set.
_PLAIN_ATTRIBUTES = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) - {
    "msg",
    "args",
    "exc_info",
    "exc_text",
    "stack_info",
}

_TOO_DEEP = 16


class Redactor:
    """Knows the secrets, and takes them out of texts and structures. Usable from any thread.

    Attributes:
        enabled: False lets everything pass; for a test's positive control.
    """

    def __init__(self, secrets: Iterable[str | SecretStr] = (), *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._needles: frozenset[str] = frozenset()
        self.learn(*secrets)

    def learn(self, *secrets: str | SecretStr) -> None:
        """Remove these from now on. Of a URL, the credentials in it are what is secret."""
        learnt = {
            needle
            for secret in secrets
            for hidden in _hidden_in(_plain(secret))
            for needle in _spellings(hidden)
        }
        # Replaced, not mutated: a reader in another thread sees the old set or the new one.
        self._needles |= {needle for needle in learnt if len(needle) >= MIN_LENGTH}

    def redact(self, text: str) -> str:
        """`text` without any known secret and without the credentials of any URL."""
        if not self.enabled:
            return text
        return redact_urls(self._without_needles(text))

    def redact_value(self, value: Any, depth: int = 0) -> Any:
        """A copy of a nested structure with every text in it redacted.

        Objects that are neither texts nor containers stay themselves unless their `repr` or
        `str` would show a secret: then its redacted text takes their place.
        """
        match value:
            case _ if not self.enabled:
                return value
            case str():
                return self.redact(value)
            case bool() | int() | float() | None | SecretStr():
                return value
            case Mapping() if depth < _TOO_DEEP:
                return {
                    self.redact_value(key, depth + 1): self.redact_value(item, depth + 1)
                    for key, item in value.items()
                }
            case list() | tuple() | set() | frozenset() if depth < _TOO_DEEP:
                kind = next(k for k in (list, tuple, set, frozenset) if isinstance(value, k))
                return kind(self.redact_value(item, depth + 1) for item in value)
            case _:
                return self._opaque(value)

    def filter(self, record: logging.LogRecord) -> bool:
        """A `logging` filter: redacts the record in place, and lets it pass.

        Put it on handlers (`handler.addFilter(redactor)`): filters of a logger are not asked
        about the records of its children.
        """
        if self.enabled:
            self._redact_record(record)
        return True

    def __call__(
        self,
        logger: object,  # noqa: ARG002 - a structlog processor's signature
        method: str,  # noqa: ARG002
        event_dict: MutableMapping[str, Any],
    ) -> MutableMapping[str, Any]:
        """A structlog processor; belongs right before the renderer.

        An `exc_info` that is still there becomes the redacted text `exception`, since renderers
        would print the traceback, and some of them its local variables.
        """
        if not self.enabled:
            return event_dict
        text = _traceback(event_dict.pop("exc_info", None))
        if text is not None:
            event_dict["exception"] = text
        redacted: dict[str, Any] = self.redact_value(dict(event_dict))
        return redacted

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._needles)} spellings>"

    def _without_needles(self, text: str) -> str:
        # The spans are joined before anything is cut out: where two secrets overlap, cutting one
        # would leave the other's rest behind.
        joined: list[list[int]] = []
        for start, end in sorted(self._spans(text)):
            if joined and start <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], end)
            else:
                joined.append([start, end])
        for start, end in reversed(joined):
            text = f"{text[:start]}{MASK}{text[end:]}"
        return text

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        for needle in self._needles:
            start = text.find(needle)
            while start >= 0:
                yield start, start + len(needle)
                start = text.find(needle, start + 1)

    def _opaque(self, value: Any) -> Any:
        for render in (str, repr):
            text = render(value)
            redacted = self.redact(text)
            if redacted != text:
                return redacted
        return value

    def _redact_record(self, record: logging.LogRecord) -> None:
        try:
            if isinstance(record.msg, Mapping):  # structlog's, and its formatter wants it whole
                record.msg = self(None, "", dict(record.msg))
            else:
                record.msg, record.args = self.redact(record.getMessage()), None
        except Exception:  # noqa: BLE001 - logging reports bad arguments itself, later on
            record.msg = self.redact_value(record.msg)
            record.args = self.redact_value(record.args)
        text = record.exc_text or _traceback(record.exc_info)
        if text is not None:
            # Formatters print the cached text; without `exc_info` nobody renders it once more.
            record.exc_text, record.exc_info = self.redact(text), None
        if record.stack_info:
            record.stack_info = self.redact(record.stack_info)
        for name in record.__dict__.keys() - _PLAIN_ATTRIBUTES - {"msg", "args"}:
            record.__dict__[name] = self.redact_value(record.__dict__[name])


def redact_urls(text: str) -> str:
    """`text` with the userinfo, and the secret options, of every URL in it masked."""
    if "://" not in text:
        return text
    text = _MONGODB_USERINFO.sub(rf"\g<1>{MASK}@", text)
    text = _USERINFO.sub(rf"\g<1>{MASK}@", text)
    return _SECRET_OPTION.sub(rf"\g<1>={MASK}", text) if "?" in text else text


def _plain(secret: str | SecretStr) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


def _hidden_in(secret: str) -> Iterator[str]:
    """What of `secret` must not be seen: all of it, or of a URL the password and its pieces."""
    url = _URL.fullmatch(secret)
    if url is None:
        yield secret
        # A key of several lines is printed line by line, with something between.
        yield from secret.splitlines()
        return
    before, mark, options = url[1].partition("?")
    if "@" not in before and _HOSTS_AND_PATH.fullmatch(before) is None:
        before, mark, options = url[1], "", ""
    password = before.rpartition("@")[0].partition(":")[2]
    # Unescaped, these characters split a password, and drivers quote the pieces as host or port.
    for piece in (password, *re.split("[:/@?#]", password)):
        yield piece
        yield unquote(piece)
        yield unquote_plus(piece)
    if mark:
        for option in _SECRET_OPTION.finditer("?" + options):
            yield unquote(option[0].partition("=")[2])


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    for encoded in (
        quote(secret, errors="replace"),
        quote(secret, safe="", errors="replace"),
        quote_plus(secret, errors="replace"),
    ):
        yield encoded
        # Upper-case digits are the norm, lower-case ones are met.
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), encoded)


def _traceback(exc_info: Any) -> str | None:
    """The text of what callers pass as `exc_info`; None where there is no exception."""
    match exc_info:
        case BaseException():
            error: BaseException | None = exc_info
        case (_, BaseException() | None as error, _):
            pass
        case True:
            error = sys.exc_info()[1]
        case _:
            return None
    if error is None:
        return None
    return "".join(traceback.format_exception(error)).rstrip("\n")
