"""docs/metrics.md, made of the table of families that `/metrics` is made of as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..providers.pools import CHECKOUT_BUCKETS
from ..runtime.driver_families import DRIVER_FAMILIES
from ..runtime.families import CONNECTION_FAMILIES, RUNTIME_FAMILIES
from ..runtime.family import COUNTER, INFO
from ..runtime.measurements import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..runtime.family import Family


def _listed(bounds: Iterable[float]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


_INTRODUCTION: Final = f"""\
<!-- Made by `python -m moorings.grafana` from runtime/families.py. -->
# Metrics

`/metrics` has these, as Prometheus's text or as OpenMetrics, whichever is asked for. They are in a
`prometheus_client` registry as well: the default one, so that an application's own `/metrics` has
them, or the one that is passed (`open_connections(…, metrics=registry)`). One exporter per process:
`prometheus_client`'s multiprocess mode knows no collectors of this kind.

- Units are base units: seconds, and Unix time where it says “timestamp”.
- Each has the label `runtime`, the name in `[default.runtime]`; those of a connection have
  `connection` as well. Other labels take the values that are listed. No label ever holds an
  address, a message or a secret.
- Counters are there from the start, with 0, so that `increase()` sees the first event, unless it
  comes before the first scrape. A new client goes on counting where the old one was; only a reload
  that gives a connection another backend begins those of its pool anew.
- Buckets, in seconds: {_listed(BUCKETS)}. Those of checkouts: {_listed(CHECKOUT_BUCKETS)}.

Dashboards and alerts made of them are in `grafana/`, and what to do about an alert is in
[the runbook](runbook.md).
"""

_SECTIONS: Final = (
    (
        "Of each connection",
        "",
        tuple(f for f in CONNECTION_FAMILIES if f not in DRIVER_FAMILIES),
    ),
    (
        "Of a connection's driver",
        (
            "Only where there is such a thing: a certificate of the client's own, threads (Motor "
            "has them, PyMongo's asynchronous client has none), pools (the `local` backend has "
            "none). Pings of ours are calls like others: they take a connection of the pool."
        ),
        DRIVER_FAMILIES,
    ),
    ("Of each runtime", "", RUNTIME_FAMILIES),
)

# Values that are known only where the program runs.
_OPEN: Final = {
    "moorings_connection": {"backend": "as in the settings", "required": "`true`, `false`"},
    "moorings_build": {
        "version": "of Moorings",
        "python": "its version",
        "driver": "names and versions",
    },
    "moorings_secret_resolutions": {"provider": "`env`, `file`, `vault` or another's"},
} | {
    f"moorings_supervisor_{name}": {"supervisor": "its name"}
    for name in ("restarts", "restart_limit", "children")
}


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for title, text, families in _SECTIONS:
        parts.append("\n".join((f"## {title}\n", *([text, ""] if text else []), *_table(families))))
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def exposed_names(family: Family) -> tuple[str, ...]:
    """The names under which Prometheus keeps the family's series."""
    return tuple(dict.fromkeys(family.name + suffix for suffix, _ in family.series))


def _table(families: Iterable[Family]) -> Iterator[str]:
    yield "| metric | type | further labels | what it says |\n|---|---|---|---|"
    for family in families:
        suffix = {COUNTER: "_total", INFO: "_info"}.get(family.kind, "")
        labels = "; ".join(_labels(family))
        yield f"| `{family.name}{suffix}` | {family.kind} | {labels} | {family.help} |"


def _labels(family: Family) -> Iterator[str]:
    for name, values in _OPEN.get(family.name, {}).items():
        yield f"`{name}`: {values}"
    found: dict[str, list[str]] = {}
    for _, further in family.series:
        for name, value in further.items():
            if name != "le":
                found.setdefault(name, []).append(value)
    if set(found) == {"from", "to"}:
        edges = zip(found["from"], found["to"], strict=True)
        yield "`from`, `to`: " + ", ".join(f"`{source}` → `{target}`" for source, target in edges)
        return
    for name, members in found.items():
        yield f"`{name}`: {', '.join(f'`{value}`' for value in dict.fromkeys(members))}"
