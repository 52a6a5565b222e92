"""What Prometheus and Grafana load is made of the code, whole, and speaks of metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from moorings.grafana.__main__ import main
from moorings.grafana.alerts import ALERTS
from moorings.grafana.metrics_page import exposed_names
from moorings.grafana.products import products, rules
from moorings.grafana.recordings import RECORDINGS
from moorings.grafana.rules import anchor, scaled
from moorings.runtime.families import CONNECTION_FAMILIES, RUNTIME_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
BOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
RULES = ROOT / "grafana" / "rules" / "moorings.yml"
PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "grafana" / "README.md"]
VARIABLES = ["datasource", "job", "instance", "connection"]
PADDING = ("or vector", "absent(", "or on() vector")
"""What would have a query answer although it finds nothing."""

NAMES = {
    name for family in (*CONNECTION_FAMILIES, *RUNTIME_FAMILIES) for name in exposed_names(family)
}
RECORDED = {recording.name for recording in RECORDINGS}
OF_OTHERS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
"""What prometheus_client's default registry shows of a process."""


def load(board: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(board.read_text())
    return found


def panels(board: Path) -> list[dict[str, Any]]:
    return [panel for panel in load(board)["panels"] if panel["type"] != "row"]


def expressions(board: Path) -> Iterator[str]:
    for panel in panels(board):
        yield from (target["expr"] for target in panel["targets"])


def metrics_in(text: str) -> set[str]:
    """Names that look like metrics, recorded ones as a whole."""
    of_jobs = set(re.findall(r"\bjob_connection:[a-z0-9_:]+", text))
    bare = re.sub(r"\bjob_connection:[a-z0-9_:]+", "", text)
    return of_jobs | set(
        re.findall(
            r"\b(?:moorings_(?:build|connection|supervisor|runtime|secret|executor|pool)|process)"
            r"_[a-z_]*[a-z]\b",
            bare,
        )
    )


@pytest.mark.parametrize("name", sorted(products()))
def test_what_is_committed_is_what_the_code_makes(name: str) -> None:
    """Else: `python -m moorings.grafana`."""
    assert (ROOT / name).read_text() == products()[name]


def test_nothing_is_left_over() -> None:
    found = {str(f.relative_to(ROOT)) for f in (*BOARDS, *RULES.parent.iterdir())}
    assert found == {name for name in products() if name.startswith("grafana/")}


# -- dashboards


def assert_within(part: Any, whole: Any, where: str = "") -> None:
    """All of `part` is in `whole`, which may have more: defaults."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert key in whole, f"{where}/{key}"
            assert_within(value, whole[key], f"{where}/{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), where
        for number, (one, other) in enumerate(zip(part, whole, strict=True)):
            assert_within(one, other, f"{where}/{number}")
    else:
        assert part == whole, where


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_grafanas_own_types_know_all_that_a_dashboard_has(board: Path) -> None:
    """The schema: a key that Grafana does not know would be lost when it is read and written."""
    register_default_plugins()
    read = Dashboard.from_json(load(board))
    assert_within(load(board), json.loads(JSONEncoder().encode(read)))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_dashboard_can_be_narrowed_down_and_leads_on(board: Path) -> None:
    variables = load(board)["templating"]["list"]
    assert [variable["name"] for variable in variables] == VARIABLES
    assert load(board)["links"][0]["includeVars"] == ("connection" in board.stem)
    for panel in panels(board):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"], panel["title"]
        assert [t["refId"] for t in panel["targets"]] == sorted(
            {t["refId"] for t in panel["targets"]}
        )
    ids = [panel["id"] for panel in load(board)["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_overview_leads_to_each_connection() -> None:
    (overview,) = (board for board in BOARDS if board.stem == "moorings-overview")
    single = load(next(board for board in BOARDS if board.stem == "moorings-connection"))
    for panel in panels(overview):
        text = json.dumps(panel)
        assert f"/d/{single['uid']}?" in text, panel["title"]
        assert "var-connection=${__" in text, panel["title"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_every_query_is_about_what_the_variables_choose_and_pads_nothing(board: Path) -> None:
    for expr in expressions(board):
        assert "$connection" in expr
        assert "$job" in expr
        assert not any(padding in expr for padding in PADDING), expr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_panels_do_not_overlap(board: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in load(board)["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
            for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


# -- names


def test_every_metric_of_a_query_or_a_rule_exists() -> None:
    queries = [expr for board in BOARDS for expr in expressions(board)]
    queries += [rule["expr"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    found = set().union(*map(metrics_in, queries))
    assert found <= NAMES | RECORDED | OF_OTHERS
    assert found > RECORDED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_metric_of_a_page_exists(page: Path) -> None:
    families = {family.name for family in (*CONNECTION_FAMILIES, *RUNTIME_FAMILIES)}
    assert metrics_in(page.read_text()) <= families | NAMES | RECORDED | OF_OTHERS


def test_the_page_of_metrics_has_each_of_them() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for family in (*CONNECTION_FAMILIES, *RUNTIME_FAMILIES):
        assert f"| `{family.name}" in text
        assert family.help in text


# -- rules


def alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return [rule for rule in rules if "alert" in rule]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+)+", alert["alert"])
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    page, _, section = alert["annotations"]["runbook_url"].partition("#")
    text = (ROOT / page).read_text()
    assert section in {anchor(title) for title in re.findall(r"^## (\w+)$", text, re.MULTILINE)}


def test_every_section_of_the_runbook_is_complete_and_about_an_alert() -> None:
    sections = (ROOT / "docs" / "runbook.md").read_text().split("\n## ")[2:]
    titles = [section.partition("\n")[0] for section in sections]
    assert titles == list(dict.fromkeys(alert.name for alert in ALERTS))
    for section in sections:
        bold = re.findall(r"^\*\*([^*]+)\*\*", section, re.MULTILINE)
        marks = {part.strip() for mark in bold for part in mark.lower().split(",")}
        assert {"means", "first look", "likely causes", "cure", "resolves"} <= marks, section[:30]


def test_the_runbook_knows_every_reason() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    (reason,) = (f for f in CONNECTION_FAMILIES if f.name == "moorings_connection_failure_reason")
    assert {f"| `{labels['reason']}` |" for _, labels in reason.series} <= set(
        re.findall(r"^(\| `\w+` \|)", text, re.MULTILINE)
    )


def test_alerts_link_to_where_the_runbook_is_published() -> None:
    published = rules(runbook="https://docs.example.org/runbook/")
    links = re.findall(r"runbook_url: (\S+)", published)
    assert len(links) == len(ALERTS)
    assert links[0] == "https://docs.example.org/runbook/#connectiondown"


def test_a_scale_is_of_every_duration_and_of_nothing_else() -> None:
    assert [scaled(d, 1.0) for d in ("2m", "6h")] == ["2m", "6h"]
    assert [scaled(d, 0.000001) for d in ("0m", "2m")] == ["0ms", "1ms"]
    assert [scaled(d, 1 / 60) for d in ("2m", "6h", "1d", "10s")] == [
        "2000ms", "360000ms", "1440000ms", "167ms",
    ]  # fmt: skip
    quick = yaml.safe_load(rules(scale=1 / 60))["groups"][0]
    assert quick["interval"] == "1000ms"
    text = json.dumps(quick)
    assert not re.search(r"\[\d+[smhd]\]|offset \d+[smhd]\b", text)
    slow = yaml.safe_load(rules())["groups"][0]
    assert [r.get("record") for r in quick["rules"]] == [r.get("record") for r in slow["rules"]]
    labels = [r["labels"] for r in slow["rules"] if "alert" in r]
    assert [r["labels"] for r in quick["rules"] if "alert" in r] == labels


# -- provisioning


def test_a_stock_grafana_finds_the_data_source_and_the_dashboards() -> None:
    folder = ROOT / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
    (source,) = sources["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    providers = yaml.safe_load((folder / "dashboards" / "moorings.yml").read_text())
    (provider,) = providers["providers"]
    assert provider["type"] == "file"
    compose = (ROOT / "deploy" / "compose" / "compose.yaml").read_text()
    assert f"- ../../grafana/dashboards:{provider['options']['path']}:ro" in compose


def test_the_command_writes_what_has_changed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://docs.example.org/runbook/"
    arguments = ["grafana", "--out", str(tmp_path), "--runbook-url", url]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    written = capsys.readouterr().out.split()
    assert written == [str(tmp_path / name) for name in products()]
    for name, text in products(runbook=url).items():
        assert (tmp_path / name).read_text() == text
    main()
    assert not capsys.readouterr().out
