"""Settings as tests write them: `main = mongo(url)` and the like, as a mapping or a TOML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BRISK: Mapping[str, float] = {"interval": 0.5, "timeout": 0.5, "failures": 2}
"""Health that sees a frozen server within `bound(BRISK)` seconds."""

DEFAULTS: Mapping[str, float] = {"interval": 10.0, "timeout": 2.0, "failures": 3}


def bound(health: Mapping[str, float]) -> float:
    """How long a frozen server may go unnoticed, in seconds: the contract's own formula."""
    return health["interval"] * 1.1 + health["failures"] * health["timeout"]


def mongo(
    url: object, database: str = "app", health: Mapping[str, float] = BRISK, **tables: Any
) -> dict[str, Any]:
    """A connection to a MongoDB server; `tables` are further tables of it, merged in."""
    connection: dict[str, Any] = {
        "backend": "mongo",
        "provider": {"url": url, "database_name": database},
        "health": dict(health),
    }
    for name, table in tables.items():
        connection[name] = connection.get(name, {}) | table if isinstance(table, dict) else table
    return connection


def settings(
    connections: Mapping[str, Any], runtime: Mapping[str, Any] | None = None, **tables: Any
) -> dict[str, Any]:
    """A mapping of the TOML's shape; the first connection is the default."""
    default = next(iter(connections))
    database = {"default_document_connection": default, "documents": dict(connections)}
    return {"default": {"database": database, "runtime": dict(runtime or {}), **tables}}


def write(folder: Path, mapping: Mapping[str, Any]) -> Path:
    """`mapping` as `settings.toml` in `folder`, where programs look for it."""
    file = folder / "settings.toml"
    lines = (f"{section} = {_inline(table)}\n" for section, table in mapping.items())
    file.write_text("".join(lines))
    return file


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)  # strings, numbers and truth are written alike in both
