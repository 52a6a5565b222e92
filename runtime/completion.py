"""What shells complete beside commands and options: the names of connections.

Asked at every press of a key, so that it reads the settings' names with `tomllib` and without the
models: half a second of imports would be felt. What is wrong with the files is for the commands to
say; here it means that there is nothing to offer.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import typer


def connection_names(context: typer.Context, incomplete: str) -> list[str]:
    """The connections that the settings name and that were not given yet.

    Args:
        context: the command line as it is so far.
        incomplete: the beginning of the word.
    """
    given = context.params.get("names") or ()
    files = _files(context.params.get("settings") or ())
    env = context.params.get("env") or os.environ.get("MOORINGS_ENV")
    beside = [file.parent / f"{env}.toml" for file in files] if env else []
    names = dict.fromkeys(_names([*files, *beside]))
    return [name for name in names if name.startswith(incomplete) and name not in given]


def _files(chosen: Sequence[Path]) -> Sequence[Path]:
    if chosen:
        return chosen
    named = os.environ.get("MOORINGS_SETTINGS", "").split(os.pathsep)
    return [Path(path) for path in named if path] or [Path("settings.toml")]


def _names(files: Sequence[Path]) -> Iterator[str]:
    """Of every layer: which one will be in force, its environment may yet say."""
    for file in files:
        for layer in _read(file).values():
            documents = _table(_table(layer, "database"), "documents")
            for name, connection in documents.items():
                if _table({"": connection}, "").get("enabled", True):
                    yield name


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def _table(table: object, key: str) -> dict[str, Any]:
    found = table.get(key) if isinstance(table, dict) else None
    return found if isinstance(found, dict) else {}
