"""Rules for Prometheus: what a recording and an alert are, and the file that they make.

Every duration of a rule can be scaled, so that the same rules can be tried on a real Prometheus
within seconds. Production is a scale of 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

CRITICAL, WARNING = "critical", "warning"

RUNBOOK: Final = "docs/runbook.md"
"""Where the runbook is, to an alert that links to it: in the repository, unless told otherwise."""

INTERVAL: Final = "1m"
"""How often rules are evaluated; the burn rates count evaluations, so it belongs to them."""


@dataclass(frozen=True)
class Recording:
    """A query whose answer is kept as a series.

    Attributes:
        name: `level:metric:operation`, as is the custom.
        expr: PromQL.
    """

    name: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """Something that somebody should know of.

    Attributes:
        name: in the runbook, the title of a section.
        expr: PromQL; what it answers with fires, one alert per series.
        wait: for how long it has to be so before it fires; `0m`: at once.
        severity: `critical` wakes somebody, `warning` can wait for the morning.
        summary: one line; Prometheus's templates work in it.
        description: what to know before the runbook is open.
        labels: further ones.
    """

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    description: str
    labels: tuple[tuple[str, str], ...] = ()


def rules_yaml(
    recordings: Iterable[Recording],
    alerts: Iterable[Alert],
    *,
    runbook: str = RUNBOOK,
    scale: float = 1.0,
) -> str:
    """The rule file.

    Args:
        recordings: go first; alerts of the same evaluation see what they have recorded.
        alerts: the rest of the one group.
        runbook: the address of the runbook's page, to which an alert's anchor is added.
        scale: what durations are multiplied by, those within expressions included.
    """
    return _yaml(_groups(recordings, alerts, runbook, scale))


def rules_manifest(
    recordings: Iterable[Recording], alerts: Iterable[Alert], *, runbook: str = RUNBOOK
) -> str:
    """The same rules for the Prometheus Operator, which loads no files: a PrometheusRule."""
    metadata = {"name": "moorings", "labels": {"app.kubernetes.io/name": "moorings"}}
    return _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": metadata,
            "spec": _groups(recordings, alerts, runbook, 1.0),
        }
    )


def _groups(
    recordings: Iterable[Recording], alerts: Iterable[Alert], runbook: str, scale: float
) -> dict[str, Any]:
    rules = [_recording(r, scale) for r in recordings]
    rules += [_alert(a, runbook, scale) for a in alerts]
    group = {"name": "moorings", "interval": scaled(INTERVAL, scale), "rules": rules}
    return {"groups": [group]}


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)


def anchor(alert: str) -> str:
    """Where a page of Markdown has the section with this title."""
    return alert.lower()


def scaled(duration: str, scale: float) -> str:
    """A duration of Prometheus's, `scale` times as long."""
    if scale == 1.0:
        return duration
    milliseconds = _milliseconds(duration) * scale
    # What is at once stays so, and nothing else becomes it.
    return f"{max(1, round(milliseconds)) if milliseconds else 0}ms"


def _milliseconds(duration: str) -> int:
    return (
        int(duration[:-1])
        * {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[duration[-1]]
    )


# Within an expression a duration is a window or an offset, and nothing else looks like these.
_DURATION = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=offset )\d+[smhd]\b")


def _expression(expr: str, scale: float) -> str:
    return _DURATION.sub(lambda found: scaled(found[0], scale), expr)


def _recording(recording: Recording, scale: float) -> dict[str, Any]:
    return {"record": recording.name, "expr": _expression(recording.expr, scale)}


def _alert(alert: Alert, runbook: str, scale: float) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": _expression(alert.expr, scale),
        "for": scaled(alert.wait, scale),
        "labels": {"severity": alert.severity, **dict(alert.labels)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbook}#{anchor(alert.name)}",
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes what has several lines as several lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
