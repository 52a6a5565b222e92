"""What the command line asks of a program that is running: over HTTP, and without a loop."""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from ..errors import FailureReason
from .embedded import load_or_embedded
from .net import url as url_of
from .state import State
from .status import ConnectionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TIMEOUT = 5.0
"""How long an answer, and the next event of a stream, is waited for, in seconds."""
POLL = 2.0
"""How often a program is asked that has no events, in seconds."""


class UnansweredError(Exception):
    """Nobody answers, or nobody of ours; the text says why."""


def served_at(files: Sequence[Path], env: str | None) -> str:
    """The URL that a program with these settings serves at, from this machine."""
    loaded, _ = load_or_embedded(files, env)
    exporter = loaded.settings.runtime.exporter
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return url_of(everywhere.get(exporter.host, exporter.host), exporter.port)


def connections(url: str) -> list[dict[str, Any]]:
    """The connections, as `/connections` has them.

    Raises:
        UnansweredError: there is no such answer.
    """
    try:
        with _open(f"{url}/connections") as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        for fields in found:
            status_of(fields)
    except _FAILURES as error:
        raise UnansweredError(_why(error)) from error
    return found


def events(url: str, polling: Callable[[], object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The program's events, as `/events` tells them, until it breaks off or says that it ends.

    Args:
        url: where the program serves.
        polling: called before a program that has no events is asked again and again instead.

    Raises:
        UnansweredError: it does not answer, or falls silent.
    """
    try:
        with _open(f"{url}/events") as answer:
            if answer.headers.get_content_type() != "text/event-stream":
                raise ValueError(answer.headers.get_content_type())
            yield from _events(answer)
    except urllib.error.HTTPError as error:
        if error.code != 404:  # noqa: PLR2004
            raise UnansweredError(_why(error)) from error
        error.close()
    except _FAILURES as error:
        raise UnansweredError(_why(error)) from error
    else:
        return
    yield from _polled(url, polling)


def _events(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind, data = "", ""
    for line in lines:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        match name:
            case "event":
                kind = value
            case "data":
                data = value
            case "" if data:
                yield kind, json.loads(data)
                kind, data = "", ""


def _polled(url: str, polling: Callable[[], object]) -> Iterator[tuple[str, dict[str, Any]]]:
    found = connections(url)
    polling()
    while True:
        yield "snapshot", {"now": time.time(), "connections": found}
        time.sleep(POLL)
        found = connections(url)


def status_of(fields: dict[str, Any]) -> ConnectionStatus:
    """A status as it was before it was JSON; what a later version adds is left out.

    Raises:
        KeyError: it is none; so with TypeError and ValueError.
    """
    known = {field.name: fields[field.name] for field in dataclasses.fields(ConnectionStatus)}
    reason = known["reason"]
    return ConnectionStatus(
        **known
        | {
            "state": State(known["state"]),
            "reason": None if reason is None else FailureReason(reason),
        }
    )


def _open(url: str) -> Any:
    # A proxy is for the world outside, and this is a process next door.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(url, timeout=TIMEOUT)


# The last of them: what serves there is not ours.
_FAILURES = (OSError, http.client.HTTPException, KeyError, TypeError, ValueError)


def _why(error: Exception) -> str:
    match error:
        case urllib.error.HTTPError():
            with error:
                plain = error.headers.get_content_type() == "text/plain"  # ours say why
                said = error.read().decode(errors="replace").strip() if plain else error.reason
            return f"status {error.code}, {said}"
        case urllib.error.URLError(reason=reason):
            return str(reason)
        case TimeoutError():
            return f"it has been silent for {TIMEOUT:g} s"
        case OSError() | http.client.HTTPException():
            return str(error) or type(error).__name__
        case _:
            return "what serves there is not Moorings"
