"""Everything that is generated, and where it belongs."""

from __future__ import annotations

from .alerts import ALERTS
from .dashboards import BOARDS, dashboard_json
from .metrics_page import page
from .recordings import RECORDINGS
from .rules import RUNBOOK, rules_manifest, rules_yaml

_MADE_BY = "# Made by `python -m moorings.grafana`: change grafana/alerts.py and its neighbours.\n"


def rules(*, runbook: str = RUNBOOK, scale: float = 1.0) -> str:
    """The rule file; see `rules_yaml`."""
    return _MADE_BY + rules_yaml(RECORDINGS, ALERTS, runbook=runbook, scale=scale)


def products(*, runbook: str = RUNBOOK) -> dict[str, str]:
    """Contents by path, as seen from the root of the repository."""
    boards = {f"grafana/dashboards/{b.uid}.json": dashboard_json(b) for b in BOARDS}
    return {
        "grafana/rules/moorings.yml": rules(runbook=runbook),
        "deploy/kubernetes/prometheusrule.yaml": _MADE_BY
        + rules_manifest(RECORDINGS, ALERTS, runbook=runbook),
        "docs/metrics.md": page(),
    } | boards
