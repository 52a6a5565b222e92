"""The state machine as an SVG: states stand where they are put, edges come from the table.

Drawn by hand-placed coordinates and not by a layout program: five states stay where the eye
expects them, and building the docs needs nothing installed.
"""

from __future__ import annotations

from math import hypot
from typing import Final

from moorings.runtime.state import State, edges

PLACES: Final = {
    State.INIT: (90, 60),
    State.CONNECTING: (330, 60),
    State.READY: (660, 60),
    State.FAILED: (495, 230),
    State.STOPPED: (210, 370),
}
WIDTH, HEIGHT = 750, 420
HALF_WIDTH, HALF_HEIGHT = 62, 22
# How far an edge bends to its left, as a share of its length.
BEND: Final = {
    (State.INIT, State.CONNECTING): 0.0,
    (State.INIT, State.STOPPED): -0.12,
    (State.READY, State.STOPPED): 0.27,
    (State.FAILED, State.STOPPED): 0.05,
    (State.CONNECTING, State.STOPPED): -0.1,
    (State.STOPPED, State.CONNECTING): -0.1,
}
USUAL_BEND = -0.1

STYLE: Final = """
text { font: 14px system-ui, sans-serif; text-anchor: middle; dominant-baseline: central }
.state rect { fill: #eef2f7; stroke: #41506b; stroke-width: 1.5 }
.ready rect { fill: #e2f4e5 } .failed rect { fill: #fbe5e3 }
.edge path { fill: none; stroke: #41506b; stroke-width: 1.3; marker-end: url(#tip) }
#tip path { fill: #41506b }
.state text { fill: #10203a; font-weight: 600 } .edge text { fill: #2b3850 }
.edge text { paint-order: stroke; stroke: #fff; stroke-width: 5px }
@media (prefers-color-scheme: dark) {
.state rect { fill: #243044; stroke: #9fb0cc } .ready rect { fill: #1d3b26 }
.failed rect { fill: #4a2522 } .edge path { stroke: #9fb0cc } #tip path { fill: #9fb0cc }
.state text { fill: #f0f4fa } .edge text { fill: #d5deeb; stroke: #131416 }
}
"""


def svg() -> str:
    """The diagram; every edge of the table, events of one edge on one arrow."""
    labels: dict[tuple[State, State], list[str]] = {}
    for source, event, target in edges():
        labels.setdefault((source, target), []).append(event.value)
    described = "; ".join(f"{s} to {t}: {', '.join(e)}" for (s, t), e in labels.items())
    return "\n".join(
        [
            "<!-- Made by `python -m tests.pages` from runtime/state.py. -->",
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>The states of a connection</title><desc>{described}</desc>",
            f"<style>{STYLE}</style>",
            (
                '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
                'markerHeight="8" orient="auto"><path d="M0 0 10 5 0 10z"/></marker></defs>'
            ),
            *(_edge(source, target, events) for (source, target), events in labels.items()),
            *(_state(state) for state in State),
            "</svg>\n",
        ]
    )


def _state(state: State) -> str:
    x, y = PLACES[state]
    return (
        f'<g class="state {state}"><rect x="{x - HALF_WIDTH}" y="{y - HALF_HEIGHT}" '
        f'width="{2 * HALF_WIDTH}" height="{2 * HALF_HEIGHT}" rx="10"/>'
        f'<text x="{x}" y="{y}">{state}</text></g>'
    )


def _edge(source: State, target: State, events: list[str]) -> str:
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    bend = BEND.get((source, target), USUAL_BEND)
    # The control point of a quadratic curve, beside the middle.
    cx, cy = (x1 + x2) / 2 + (y2 - y1) * bend * 2, (y1 + y2) / 2 - (x2 - x1) * bend * 2
    sx, sy = _border(x1, y1, cx, cy)
    tx, ty = _border(x2, y2, cx, cy)
    lx, ly = (sx + 2 * cx + tx) / 4, (sy + 2 * cy + ty) / 4
    lines = "".join(
        f'<text x="{lx:.0f}" y="{ly + 17 * (i - (len(events) - 1) / 2):.0f}">{event}</text>'
        for i, event in enumerate(events)
    )
    path = f"M{sx:.0f} {sy:.0f}Q{cx:.0f} {cy:.0f} {tx:.0f} {ty:.0f}"
    return f'<g class="edge"><path d="{path}"/>{lines}</g>'


def _border(x: float, y: float, cx: float, cy: float) -> tuple[float, float]:
    """Where the line from a state's centre to the control point leaves its box, and a bit more."""
    dx, dy = cx - x, cy - y
    scale = min(
        HALF_WIDTH / abs(dx) if dx else float("inf"), HALF_HEIGHT / abs(dy) if dy else float("inf")
    )
    far = hypot(dx, dy)
    gap = 3 / far
    return x + dx * (scale + gap), y + dy * (scale + gap)
