"""What `moorings config`, `states`, `backends` and `status` print; each returns its exit status."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ..errors import FailureReason, SettingsError
from ..providers.registry import ENTRY_POINT_GROUP, DocumentDatabaseRegistry
from .embedded import load_or_embedded
from .exits import ExitStatus
from .net import url as url_of
from .screen import STATUS_HEADERS, print_table, status_row
from .settings_view import redacted, settings_schema
from .state import State, edges
from .status import ConnectionStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .loading import LoadedSettings

# ruff: noqa: T201 - printing is what these commands are for

_TIMEOUT = 5.0
"""How long `status` waits for an answer, in seconds."""


# -- config


def show_config(
    files: Sequence[Path],
    env: str | None,
    schema: bool,
    as_json: bool,
) -> int:
    """Everything that holds, defaults included, secrets excepted."""
    if schema:
        print(json.dumps(settings_schema(DocumentDatabaseRegistry.default()), indent=2))
        return ExitStatus.OK
    loaded, embedded = load_or_embedded(files, env)
    if as_json:
        print(json.dumps(_as_json(loaded, embedded=embedded), indent=2))
    else:
        print("\n".join(_as_toml(loaded, embedded=embedded)))
    return ExitStatus.OK


def _as_json(loaded: LoadedSettings, *, embedded: bool) -> dict[str, Any]:
    shown = redacted(loaded)
    return {
        "environment": loaded.env,
        "files": [str(file) for file in loaded.files],
        "embedded": embedded,
        "settings": shown,
        "origins": {key: _origin(loaded, key, embedded=embedded) for key, _ in _leaves(shown)},
        "foreign": list(loaded.foreign),
    }


def _as_toml(loaded: LoadedSettings, *, embedded: bool) -> Iterator[str]:
    """Dotted TOML keys, each with its origin as a comment."""
    yield f"# files: {', '.join(map(str, loaded.files)) or 'none'}"
    yield f"# environment: {loaded.env or 'none'}"
    lines = []
    for key, value in _leaves(redacted(loaded)):
        origin = _origin(loaded, key, embedded=embedded)
        lines.append(
            (f"# {key} is not set" if value is None else f"{key} = {_toml(value)}", origin)
        )
    width = min(max((len(line) for line, _ in lines), default=0), 72)
    for line, origin in lines:
        yield f"{line:<{width}}  # {origin}"
    if loaded.foreign:
        yield f"# not ours, left alone: {', '.join(loaded.foreign)}"


def _origin(loaded: LoadedSettings, key: str, *, embedded: bool) -> str:
    origin = loaded.origin(key)
    return "embedded default" if embedded and origin.file == "mapping" else str(origin)


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _toml(value: Any) -> str:
    # JSON's scalars and arrays are TOML's as well.
    return json.dumps(value, ensure_ascii=False)


# -- states


def show_states(drawn: str) -> int:
    """The table of the state machine, as a diagram or as text."""
    if drawn == "mermaid":
        print("\n".join(_mermaid()))
    else:
        print_table(("from", "event", "to"), list(edges()), coloured="to")
    return ExitStatus.OK


def _mermaid() -> Iterator[str]:
    yield "stateDiagram-v2"
    yield f"    [*] --> {State.INIT}"
    for source, event, target in edges():
        yield f"    {source} --> {target}: {event}"


# -- backends


def show_backends() -> int:
    """Every backend that an installed distribution offers, and whether it can be imported."""
    registry = DocumentDatabaseRegistry.default()
    rows = [(name, *_backend(registry, name)) for name in registry.names()]
    print_table(("name", "class", "distribution", "hosts", "importable"), rows)
    return ExitStatus.OK


def _backend(registry: DocumentDatabaseRegistry, name: str) -> tuple[str, str, str, str]:
    offered = entry_points(group=ENTRY_POINT_GROUP, name=name)
    found = {e.dist for e in offered if e.dist is not None}
    by = ", ".join(sorted(f"{dist.name} {dist.version}" for dist in found))
    try:
        provider = registry.get(name)
    except SettingsError as error:
        why = "; ".join(f"no: {p.problem}. {p.cure}" for p in error.problems)
        return ", ".join(e.value for e in offered), by, "", why
    return (
        f"{provider.__module__}:{provider.__qualname__}",
        by,
        ", ".join(sorted(provider.hosts)),
        "yes",
    )


# -- status


def show_status(
    files: Sequence[Path],
    env: str | None,
    url: str | None,
    as_json: bool,
) -> int:
    """Ask a running program; 69 when it does not answer."""
    url = (_served_at(files, env) if url is None else url).rstrip("/")
    try:
        answer = json.loads(_get(f"{url}/connections"))
        statuses = [_status(fields) for fields in answer]
    except (OSError, KeyError, TypeError, ValueError) as error:
        print(f"moorings: {url} does not answer: {_why(error)}", file=sys.stderr)
        return ExitStatus.UNAVAILABLE
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        now = time.time()
        rows = [status_row(status, now) for status in statuses]
        print_table(STATUS_HEADERS, rows, coloured="state")
    return ExitStatus.OK


def _served_at(files: Sequence[Path], env: str | None) -> str:
    loaded, _ = load_or_embedded(files, env)
    exporter = loaded.settings.runtime.exporter
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return url_of(everywhere.get(exporter.host, exporter.host), exporter.port)


def _get(url: str) -> bytes:
    # A proxy is for the world outside, and this is a process next door.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_TIMEOUT) as answer:
        body: bytes = answer.read()
        return body


def _why(error: Exception) -> str:
    match error:
        case urllib.error.HTTPError():
            plain = error.headers.get_content_type() == "text/plain"  # ours say why
            said = error.read().decode(errors="replace").strip() if plain else error.reason
            return f"status {error.code}, {said}"
        case urllib.error.URLError(reason=reason):
            return str(reason)
        case OSError():
            return str(error)
        case _:
            return "what serves there is not Moorings"


def _status(fields: dict[str, Any]) -> ConnectionStatus:
    """A status as it was before it was JSON; what a later version adds is left out."""
    known = {field.name: fields[field.name] for field in dataclasses.fields(ConnectionStatus)}
    reason = known["reason"]
    return ConnectionStatus(
        **known
        | {
            "state": State(known["state"]),
            "reason": None if reason is None else FailureReason(reason),
        }
    )
