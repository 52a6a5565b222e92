"""Two dashboards: of all connections, and of a single one. Their panels are in other modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from .connection import CONNECTION
from .overview import OVERVIEW
from .panels import CONNECTION_UID, DATASOURCE, built

if TYPE_CHECKING:
    from .panels import Panel

    Rows = tuple[tuple[str, tuple[Panel, ...]], ...]

_INFO: Final = "moorings_connection_info"


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Attributes:
        uid: in its address, and its file's name.
        title: in the list of dashboards.
        help: what it is for.
        rows: titles and panels.
        single: it shows one connection at a time.
    """

    uid: str
    title: str
    help: str
    rows: Rows
    single: bool = False


BOARDS: Final = (
    Board(
        "moorings-overview",
        "Moorings: all connections",
        "Which connections are usable, since when, and how much of the error budget is left.",
        OVERVIEW,
    ),
    Board(
        CONNECTION_UID,
        "Moorings: one connection",
        "Everything about one connection, on all instances of its job.",
        CONNECTION,
        single=True,
    ),
)


def dashboard_json(board: Board) -> str:
    """What Grafana loads."""
    made = (
        Dashboard(board.title)
        .uid(board.uid)
        .description(board.help)
        .tags(["moorings"])
        .editable()
        .time("now-3h", "now")
        .timezone("browser")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables([DatasourceVariable("datasource").label("Data source").type("prometheus")])
        .with_variable(_variable("job", ""))
        .with_variable(_variable("instance", 'job=~"$job"'))
        .with_variable(
            _variable("connection", 'job=~"$job", instance=~"$instance"', single=board.single)
        )
        .link(
            DashboardLink("Moorings")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["moorings"])
            .keep_time(keep_time=True)
            # Not from where many are chosen to where one is: rows lead there, each with its own.
            .include_vars(include_vars=board.single)
        )
    )
    number = 0
    for title, panels in board.rows:
        number += 1
        made.with_row(Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(built(panel, number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _variable(name: str, selector: str, *, single: bool = False) -> QueryVariable:
    made = (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query(f"label_values({_INFO}{{{selector}}}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if not single:
        made.multi(multi=True).include_all(include_all=True).all_value(".*")
        made.current(VariableOption(selected=True, text="All", value="$__all"))
    return made
