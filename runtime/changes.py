"""What a reload would change: a pure comparison of the settings in force with others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..providers.references import references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from .settings import ConnectionSettings, RuntimeSettings, SecretsSettings, Settings

# Read each time they are needed; all else of `runtime` is read once, when it begins.
LIVE = frozenset({"ready_timeout", "hook_timeout"})

_NEEDS_CLIENT = ("backend", "provider")


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload has changed. Names of connections, in the settings' order; and dotted keys.

    Attributes:
        added: connections that were started.
        removed: connections that were stopped, and are unknown from now on.
        restarted: connections with another client, or another backend.
        updated: connections that go by other settings and keep their client; and the keys of
            other settings that took effect, such as `runtime.ready_timeout`.
        needs_restart: keys whose new values wait for the program's next start.
        failed: connections whose new client did not come up. They keep the old one, and all of
            their old settings; the log says why. The next reload tries again.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for a log: only what there is."""
        parts = [
            f"{field.name.replace('_', ' ')}: {', '.join(names)}"
            for field in fields(self)
            if (names := getattr(self, field.name))
        ]
        return "; ".join(parts) or "no changes"


@dataclass(frozen=True, slots=True)
class InForce:
    """The settings that a running manager goes by; after a reload not all are of one source.

    Attributes:
        connections: the enabled ones.
        default: the default connection's name.
        secrets: where references lead.
        runtime: as they were when it began, but for those that are live.
        owed: connections that still have a client from before the last change of `secrets`.
    """

    connections: Mapping[str, ConnectionSettings]
    default: str | None
    secrets: SecretsSettings
    runtime: RuntimeSettings
    owed: frozenset[str] = frozenset()


def enabled(settings: Settings) -> dict[str, ConnectionSettings]:
    """The connections that run."""
    return {name: c for name, c in settings.database.documents.items() if c.enabled}


def compare(now: InForce, wanted: Settings) -> Changes:
    """What has to be done so that `wanted` is in force."""
    names = enabled(wanted)
    kept = {name: now.connections[name] for name in names if name in now.connections}
    secrets_changed = now.secrets != wanted.security.secrets
    restarted = [
        name
        for name, old in kept.items()
        if _differs(old, names[name], _NEEDS_CLIENT)
        or name in now.owed
        or (secrets_changed and references(names[name].provider))
    ]
    keys = list(_keys("runtime", now.runtime, wanted.runtime))
    live = [key for key in keys if key.removeprefix("runtime.") in LIVE]
    if secrets_changed:
        live.append("security.secrets")
    if now.default != wanted.database.default_document_connection:
        live.append("database.default_document_connection")
    return Changes(
        added=tuple(name for name in names if name not in kept),
        removed=tuple(name for name in now.connections if name not in kept),
        restarted=tuple(restarted),
        updated=(
            *(name for name in kept if kept[name] != names[name] and name not in restarted),
            *live,
        ),
        needs_restart=tuple(key for key in keys if key not in live),
    )


def _differs(one: BaseModel, other: BaseModel, names: tuple[str, ...]) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in names)


def _keys(prefix: str, old: BaseModel, new: BaseModel) -> Iterator[str]:
    """The dotted keys of what differs."""
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if name == "exporter":
            yield from _keys(f"{prefix}.{name}", before, after)
        else:
            yield f"{prefix}.{name}"
