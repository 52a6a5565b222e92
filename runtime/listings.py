"""What `moorings config`, `states` and `backends` print; each returns its exit status."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..providers.registry import ENTRY_POINT_GROUP, DocumentDatabaseRegistry
from .embedded import load_or_embedded
from .exits import ExitStatus
from .screen import print_table
from .settings_view import redacted, settings_schema
from .state import State, edges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .loading import LoadedSettings

# ruff: noqa: T201 - printing is what these commands are for


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
