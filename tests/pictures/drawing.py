"""A dashboard as a picture: rows of panels, as wide as in Grafana, with its colours."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")  # no screen

import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter, ScalarFormatter

from moorings.grafana.panels import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes

    from moorings.grafana.dashboards import Board
    from moorings.grafana.panels import Panel, Query

    from .story import Seen

PALETTE = plt.colormaps["tab10"].colors
COLOURS = {"green": "#56a64b", "red": "#e02f44", "orange": "#ff9830", "blue": "#3274d9"}
INCH = 0.36
"""The height of one row of Grafana's grid."""


def draw(board: Board, seen: Seen, file: Path) -> None:
    """Write the picture."""
    lines = list(_lines(board))
    heights = [max(panel.height for panel in line) * INCH for line in lines]
    figure = plt.figure(figsize=(15, sum(heights)), dpi=80, layout="constrained")
    figure.suptitle(board.title, fontsize="large", fontweight="bold")
    figure.supxlabel("minutes", fontsize="small")
    for part, line in zip(
        figure.subfigures(len(lines), 1, height_ratios=heights, squeeze=False)[:, 0],
        lines,
        strict=True,
    ):
        axes = part.subplots(1, len(line), squeeze=False, width_ratios=[p.width for p in line])
        for ax, panel in zip(axes[0], line, strict=True):
            ax.set_title(panel.title, fontsize="medium", loc="left")
            _DRAWN[panel.kind](ax, panel, seen, only="orders" if board.single else None)
    figure.savefig(file)
    plt.close(figure)


def _lines(board: Board) -> Iterator[list[Panel]]:
    """Panels that stand side by side."""
    for _, panels in board.rows:
        line: list[Panel] = []
        for panel in panels:
            if line and sum(p.width for p in line) + panel.width > 24:
                yield line
                line = []
            line.append(panel)
        yield line


def _series(
    panel: Panel, seen: Seen, only: str | None
) -> Iterator[tuple[str, Query, dict[str, Any]]]:
    for query in panel.queries:
        instant = panel.kind in {Kind.NUMBER, Kind.TABLE}
        for found in seen.ask(query.expr, instant=instant, connection=only or ".*"):
            yield _named(query.legend, found["metric"]), query, found


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), legend)


def _plot(ax: Axes, panel: Panel, seen: Seen, *, only: str | None) -> None:
    found = list(_series(panel, seen, only))
    below = None
    for number, (name, _, series) in enumerate(found):
        times, values = _values(series, seen)
        colour = PALETTE[number % len(PALETTE)]
        if panel.stacked:
            dense = _dense(series, seen)
            below = below or [0.0] * len(dense)
            top = [a + b for a, b in zip(below, dense, strict=True)]
            if any(dense):
                span = range(len(dense))
                ax.fill_between(span, below, top, step="post", color=colour, alpha=0.6, label=name)
            below = top
        elif any(values) or len(found) < 5:
            ax.plot(times, values, color=colour, label=name, linewidth=1.4)
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, seen.end - seen.begin)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(_unit(panel.unit))
    ax.grid(alpha=0.3)
    ax.tick_params(labelsize="small")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="x-small", loc="upper left", framealpha=0.6)


def _timeline(ax: Axes, panel: Panel, seen: Seen, *, only: str | None) -> None:
    colours = {value: COLOURS.get(colour, colour) for value, _, colour in panel.mappings}
    names = []
    for row, (name, _, series) in enumerate(_series(panel, seen, only)):
        names.append(name)
        for at, value in series["values"]:
            colour = colours.get(value, "grey")
            ax.barh(row, 1.02, left=float(at) - seen.begin, color=colour, height=0.8)
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set_xlim(0, seen.end - seen.begin)
    ax.tick_params(labelsize="small")


def _number(ax: Axes, panel: Panel, seen: Seen, *, only: str | None) -> None:
    found = list(_series(panel, seen, only))
    ax.axis("off")
    for number, (name, _, series) in enumerate(found):
        value = float(series["value"][1])
        colour = [c for limit, c in panel.colours if limit is None or value >= limit][-1]
        left, width = number / len(found), 0.97 / len(found)
        ax.add_patch(
            plt.Rectangle((left, 0), width, 1, color=COLOURS[colour], transform=ax.transAxes)
        )
        text = {"transform": ax.transAxes, "ha": "center", "color": "white"}
        ax.text(left + width / 2, 0.5, f"{value:.1%}", fontsize="xx-large", **text)
        ax.text(left + width / 2, 0.2, name, fontsize="small", **text)


def _table(ax: Axes, panel: Panel, seen: Seen, *, only: str | None) -> None:
    ax.axis("off")
    rows: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for _, query, series in _series(panel, seen, only):
        labels = {k: v for k, v in series["metric"].items() if k not in {"__name__", "runtime"}}
        rows.setdefault(tuple(sorted(labels.items())), {})[query.legend] = (
            f"{float(series['value'][1]):.0f}"
        )
    columns = [q.legend for q in panel.queries]
    names = [name for name, _ in next(iter(rows))]
    cells = [
        [value for _, value in labels] + [row.get(column, "") for column in columns]
        for labels, row in rows.items()
    ]
    made = ax.table(cells, colLabels=names + columns, loc="upper left", cellLoc="left")
    made.auto_set_font_size(value=False)
    made.set_fontsize(9)
    made.scale(1, 1.5)


_DRAWN = {
    Kind.LINES: _plot,
    Kind.TIMELINE: _timeline,
    Kind.NUMBER: _number,
    Kind.TABLE: _table,
}


def _values(series: dict[str, Any], seen: Seen) -> tuple[list[float], list[float]]:
    pairs = [(float(at) - seen.begin, float(value)) for at, value in series["values"]]
    known = [pair for pair in pairs if math.isfinite(pair[1])]
    return [at for at, _ in known], [value for _, value in known]


def _dense(series: dict[str, Any], seen: Seen) -> list[float]:
    """A value a second, 0 where there is none: what is stacked has to be equally long."""
    found = [0.0] * (int(seen.end - seen.begin) + 1)
    for at, value in zip(*_values(series, seen), strict=True):
        found[round(at)] = value
    return found


def _unit(unit: str) -> Any:
    match unit:
        case "percentunit":
            return PercentFormatter(1.0, decimals=0)
        case "s":
            return EngFormatter("s")
        case "bytes":
            return EngFormatter("B")
        case _:
            return ScalarFormatter(useOffset=False)
