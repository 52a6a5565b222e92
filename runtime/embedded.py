"""What `moorings run` serves when nobody named any settings: one connection, in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .loading import DEFAULT_FILE, ENV_VARIABLE, SETTINGS_VARIABLE, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .loading import LoadedSettings

EMBEDDED: Mapping[str, Any] = {
    "default": {
        "database": {
            "default_document_connection": "default_local",
            "documents": {"default_local": {"backend": "local"}},
        }
    }
}

EMBEDDED_WARNING = (
    "no settings were named: serving one connection in memory, whose data is lost at exit"
)


def load_or_embedded(
    files: Sequence[Path], env: str | None, environ: Mapping[str, str] = os.environ
) -> tuple[LoadedSettings, bool]:
    """The settings as they are named, and whether they are the embedded default.

    `MOORINGS_…` variables that set single keys override the embedded default too. Whoever names
    an environment means settings: then their absence is an error.

    Raises:
        SettingsError: as `load_settings`.
    """
    if settings_named(files, env, environ):
        return load_settings(files, env=env, environ=environ), False
    return load_settings(EMBEDDED, environ=environ), True


def settings_named(files: Sequence[Path], env: str | None, environ: Mapping[str, str]) -> bool:
    """Whether anything says which settings are meant."""
    return bool(
        files
        or env
        or environ.get(SETTINGS_VARIABLE)
        or environ.get(ENV_VARIABLE)
        or os.path.lexists(Path(DEFAULT_FILE))
    )
