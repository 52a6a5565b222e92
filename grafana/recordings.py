"""What the alerts and the dashboards of a whole job rest on: shares of its instances."""

from __future__ import annotations

from typing import Final

from .rules import Recording

OBJECTIVE: Final = 0.999
"""How much of the time a connection that is required should be usable."""
BUDGET: Final = "0.001"
"""What the objective leaves, as PromQL has it."""

WINDOWS: Final = ("5m", "30m", "1h", "6h")

DOWN: Final = 'state=~"connecting|failed"'
UP_OR_DOWN: Final = 'state!="stopped"'
"""Whoever stops a connection means it: it is neither."""

MONTH: Final = 30 * 24 * 60
"""Evaluations in 30 days: `sum_over_time` of a share counts minutes of it."""

INSTANCE: Final = "job, instance, runtime, connection"
"""One connection of one process."""

DOWN_RATIO: Final = "job_connection:moorings_connection_down:ratio"
UNAVAILABLE_RATIO: Final = "job_connection:moorings_connection_unavailable:ratio"


def unavailable_over(window: str) -> str:
    """The name of the recording that averages over `window`."""
    return f"{UNAVAILABLE_RATIO}_avg{window}"


def budget_left(selector: str) -> str:
    """How much of the budget of 30 days is left: all of it is 1, and less than 0 is overdrawn."""
    # Not an average: a job that is an hour old would have spent its budget on a single minute.
    return f"1 - sum_over_time({UNAVAILABLE_RATIO}{{{selector}}}[30d]) / ({BUDGET} * {MONTH})"


# NaN is no share: it would make every average that it enters NaN. A lost scrape ends a series, so
# what an alert waits for looks back as far as one may have been lost.
_DOWN_RATIO = f"""\
(
  sum by (job, connection) (last_over_time(moorings_connection_state{{{DOWN}}}[3m]))
/
  sum by (job, connection) (last_over_time(moorings_connection_state{{{UP_OR_DOWN}}}[3m]))
) >= 0
"""

_READY_BEFORE = f"and on ({INSTANCE}) moorings_connection_generation > 0"

# Instances that have yet to become ready serve nobody, and a deploy brings many of them: they
# count only where there are no others. Here a scrape that was lost is not made up for: it would
# count what the scrape before it saw twice.
_UNAVAILABLE_RATIO = f"""\
(
  sum by (job, connection) (moorings_connection_state{{{DOWN}}} {_READY_BEFORE})
/
  sum by (job, connection) (moorings_connection_state{{{UP_OR_DOWN}}} {_READY_BEFORE})
) >= 0
or
(
  sum by (job, connection) (moorings_connection_state{{{DOWN}}})
/
  sum by (job, connection) (moorings_connection_state{{{UP_OR_DOWN}}})
) >= 0
"""

RECORDINGS: Final = (
    Recording(DOWN_RATIO, _DOWN_RATIO),
    Recording(UNAVAILABLE_RATIO, _UNAVAILABLE_RATIO),
    *(
        Recording(unavailable_over(window), f"avg_over_time({UNAVAILABLE_RATIO}[{window}])")
        for window in WINDOWS
    ),
)
