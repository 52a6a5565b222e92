"""The overview's tiles: green, red, and neither for what was stopped on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alert_series import Instance, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
RULES = ROOT / "grafana" / "rules" / "moorings.yml"
OVERVIEW = ROOT / "grafana" / "dashboards" / "moorings-overview.json"
MAIN = {"job": "worker", "connection": "main"}


def tile() -> dict[str, Any]:
    panels = json.loads(OVERVIEW.read_text())["panels"]
    (found,) = (panel for panel in panels if panel["title"] == "Ready")
    assert isinstance(found, dict)
    return found


def test_what_is_stopped_has_a_text_and_a_colour_of_its_own() -> None:
    shown = tile()["fieldConfig"]["defaults"]
    (mapping,) = shown["mappings"]
    assert mapping["options"] == {"-1": {"text": "stopped", "color": "blue"}}
    assert shown["thresholds"]["steps"][0]["color"] == "red"


@pytest.mark.operators
@pytest.mark.parametrize(
    ("minutes", "values"),
    [
        (("rrffss", "rrffss"), {1: 1.0, 3: 0.0, 5: -1.0}),
        (("rrrsss", "rrfffr"), {2: 0.5, 4: 0.0, 5: 1.0}),  # where one is stopped, the other speaks
        (("iiccrr",), {0: 0.0, 2: 0.0, 4: 1.0}),
    ],
    ids=["all", "one", "none"],
)
def test_a_tile_is_the_share_of_those_that_are_not_stopped(
    tmp_path: Path, minutes: tuple[str, ...], values: Mapping[int, float]
) -> None:
    (target,) = tile()["targets"]
    query = target["expr"]
    for variable in ("$job", "$instance", "$connection"):
        query = query.replace(variable, ".*")
    instances = [Instance(letters, name=f"pod-{n}:9464") for n, letters in enumerate(minutes)]
    Trial(tmp_path, RULES).answers(instances, query, MAIN, values)
