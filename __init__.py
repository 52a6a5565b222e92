"""A supervised connection runtime for document databases.

    async with open_connections("settings.toml") as connections:
        db = await connections.get_database("default_mongo")

Names load when they are first used: importing `moorings` imports no driver, no web framework, no
command line, and not even trio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        ConnectionNotReady as ConnectionNotReady,
    )
    from .errors import (
        FailureReason as FailureReason,
    )
    from .errors import (
        HostMismatch as HostMismatch,
    )
    from .errors import (
        IllegalTransition as IllegalTransition,
    )
    from .errors import (
        MooringsError as MooringsError,
    )
    from .errors import (
        RestartIntensityExceeded as RestartIntensityExceeded,
    )
    from .errors import (
        SecretUnavailable as SecretUnavailable,
    )
    from .errors import (
        SettingsError as SettingsError,
    )
    from .errors import (
        SettingsProblem as SettingsProblem,
    )
    from .errors import (
        SupervisorError as SupervisorError,
    )
    from .errors import (
        UnknownBackend as UnknownBackend,
    )
    from .errors import (
        UnknownConnection as UnknownConnection,
    )
    from .providers.contract import DocumentsDatabaseBase as DocumentsDatabaseBase
    from .providers.contract import Signal as Signal
    from .providers.factory import DocumentsDatabaseFactory as DocumentsDatabaseFactory
    from .providers.local import LocalDBProvider as LocalDBProvider
    from .providers.mongo import MongoProvider as MongoProvider
    from .providers.pymongo_async import PyMongoProvider as PyMongoProvider
    from .providers.references import Secret as Secret
    from .providers.references import SecretReference as SecretReference
    from .providers.registry import DocumentDatabaseRegistry as DocumentDatabaseRegistry
    from .runtime.changes import Changes as Changes
    from .runtime.connection import Connection as Connection
    from .runtime.manager import ConnectionManager as ConnectionManager
    from .runtime.opening import open_connections as open_connections
    from .runtime.protocols import BaseServiceProtocol as BaseServiceProtocol
    from .runtime.protocols import DocumentsDatabaseProtocol as DocumentsDatabaseProtocol
    from .runtime.runner import run as run
    from .runtime.secrets import SecretsBackend as SecretsBackend
    from .runtime.settings import Settings as Settings
    from .runtime.state import Event as Event
    from .runtime.state import State as State
    from .runtime.status import ConnectionStatus as ConnectionStatus
    from .runtime.status import Transition as Transition

_HOMES = {
    "errors": (
        "ConnectionNotReady",
        "FailureReason",
        "HostMismatch",
        "IllegalTransition",
        "MooringsError",
        "RestartIntensityExceeded",
        "SecretUnavailable",
        "SettingsError",
        "SettingsProblem",
        "SupervisorError",
        "UnknownBackend",
        "UnknownConnection",
    ),
    "providers.contract": ("DocumentsDatabaseBase", "Signal"),
    "providers.factory": ("DocumentsDatabaseFactory",),
    "providers.local": ("LocalDBProvider",),
    "providers.mongo": ("MongoProvider",),
    "providers.pymongo_async": ("PyMongoProvider",),
    "providers.references": ("Secret", "SecretReference"),
    "providers.registry": ("DocumentDatabaseRegistry",),
    "runtime.changes": ("Changes",),
    "runtime.connection": ("Connection",),
    "runtime.manager": ("ConnectionManager",),
    "runtime.opening": ("open_connections",),
    "runtime.protocols": ("BaseServiceProtocol", "DocumentsDatabaseProtocol"),
    "runtime.runner": ("run",),
    "runtime.secrets": ("SecretsBackend",),
    "runtime.settings": ("Settings",),
    "runtime.state": ("Event", "State"),
    "runtime.status": ("ConnectionStatus", "Transition"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME_OF), "supervisors"]  # noqa: PLE0604 - every name is a string


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is not None:
        value = getattr(import_module(f".{home}", __name__), name)
    elif name == "supervisors":
        value = import_module(".supervisors", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
