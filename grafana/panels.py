"""A panel as the dashboards describe it, and how Grafana's own builders make it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, assert_never

from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    StackingMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import Panel as Model

    Made = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel

DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
CONNECTION_UID: Final = "moorings-connection"


class Kind(Enum):
    """How a panel shows what its queries answer."""

    LINES = auto()
    NUMBER = auto()
    TIMELINE = auto()
    TABLE = auto()


@dataclass(frozen=True)
class Query:
    """PromQL, and what a series of its answer is called (the column, in a table)."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """What is shown.

    Attributes:
        title: what it is.
        help: what to see in it.
        queries: one or more.
        kind: how it is shown.
        unit: Grafana's name of the unit.
        width: of 24.
        height: in rows of the grid.
        stacked: lines add up to a whole.
        colours: from which value on which colour; None: below all others.
        mappings: a value's text and colour.
        zoom: a click leads to the dashboard of the connection.
    """

    title: str
    help: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    colours: tuple[tuple[float | None, str], ...] = ()
    mappings: tuple[tuple[str, str, str], ...] = ()
    zoom: bool = False


def built(panel: Panel, number: int) -> Builder[Model]:
    """Grafana's own, with this id."""
    made = _BUILDERS[panel.kind](panel)
    made.id(number).title(panel.title).description(panel.help).datasource(DATASOURCE)
    made.unit(panel.unit).span(panel.width).height(panel.height)
    for letter, query in _lettered(panel):
        made.with_target(_target(panel, query, letter))
    made.color_scheme(FieldColor().mode(_COLOURED[panel.kind]))
    if panel.colours:
        made.thresholds(_thresholds(panel.colours))
    if panel.mappings:
        texts = {value: ValueMappingResult(text, colour) for value, text, colour in panel.mappings}
        made.mappings([ValueMap(options=texts)])
    if panel.zoom and panel.kind is not Kind.TABLE:
        made.data_links([DashboardLink("This connection").url(_zoom("__field.labels"))])
    return made


def _lettered(panel: Panel) -> Iterable[tuple[str, Query]]:
    return zip("ABCDEFGH", panel.queries, strict=False)


def _target(panel: Panel, query: Query, letter: str) -> Dataquery:
    target = Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    match panel.kind:
        case Kind.LINES | Kind.TIMELINE:
            return target.range()
        case Kind.NUMBER:
            return target.instant()
        case Kind.TABLE:
            return target.instant().format(PromQueryFormat.TABLE)
        case _:
            assert_never(panel.kind)


def _lines(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().fill_opacity(30 if panel.stacked else 8)
    made.show_points(VisibilityMode.NEVER).min(0)
    made.legend(
        VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    if panel.stacked:
        made.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
        made.line_interpolation(LineInterpolation.STEP_AFTER)
    return made


def _number(panel: Panel) -> stat.Panel:
    del panel
    return (
        stat.Panel()
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    )


def _timeline(panel: Panel) -> statetimeline.Panel:
    del panel
    return statetimeline.Panel().show_value(VisibilityMode.AUTO).merge_values(merge_values=True)


def _table(panel: Panel) -> table.Panel:
    """One row for each connection, or instance of one: what the queries answer, side by side."""
    columns = {f"Value #{letter}": q.legend for letter, q in _lettered(panel)}
    if len(panel.queries) == 1:
        columns["Value"] = panel.queries[0].legend
    made = (
        table.Panel()
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True}, "renameByName": columns},
            )
        )
    )
    if panel.zoom:
        links = [{"title": "This connection", "url": _zoom("__data.fields")}]
        made.override_by_name("connection", [DynamicConfigValue("links", links)])
    return made


_BUILDERS: Mapping[Kind, Callable[[Panel], Made]] = {
    Kind.LINES: _lines,
    Kind.NUMBER: _number,
    Kind.TIMELINE: _timeline,
    Kind.TABLE: _table,
}


_COLOURED: Mapping[Kind, FieldColorModeId] = {
    Kind.LINES: FieldColorModeId.PALETTE_CLASSIC,
    Kind.NUMBER: FieldColorModeId.THRESHOLDS,
    Kind.TIMELINE: FieldColorModeId.THRESHOLDS,
    Kind.TABLE: FieldColorModeId.THRESHOLDS,
}


def _zoom(fields: str) -> str:
    """Where a click leads: the other dashboard, about this connection, at the same time."""
    return (
        f"/d/{CONNECTION_UID}?${{datasource:queryparam}}&${{__url_time_range}}"
        f"&var-job=${{{fields}.job}}&var-connection=${{{fields}.connection}}"
    )


def _thresholds(colours: Iterable[tuple[float | None, str]]) -> ThresholdsConfig:
    steps = [Threshold(value, colour) for value, colour in colours]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
