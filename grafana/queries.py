"""PromQL that both dashboards use: selectors of Grafana's variables, and common shapes."""

from __future__ import annotations

from typing import Final

from ..runtime.state import State
from .recordings import INSTANCE

PROCESS: Final = 'job=~"$job", instance=~"$instance"'
ONE: Final = f'{PROCESS}, connection=~"$connection"'
ALL_INSTANCES: Final = 'job=~"$job", connection=~"$connection"'
"""Of recorded series, which know no instances."""

RATE: Final = "[$__rate_interval]"

_COLOURS: Final = {
    State.INIT: "#8e8e8e",
    State.CONNECTING: "orange",
    State.READY: "green",
    State.FAILED: "red",
    State.STOPPED: "blue",
}
STATE_MAPPINGS: Final = tuple(
    (str(number), str(state), _COLOURS[state]) for number, state in enumerate(State)
)


ALERT_MAPPINGS: Final = (("1", "pending", "orange"), ("2", "firing", "red"))


def alert_number(selector: str) -> str:
    """How far each alert is, as `ALERT_MAPPINGS` name it."""
    pending = f'ALERTS{{{selector}, alertstate="pending"}}'
    firing = f'2 * ALERTS{{{selector}, alertstate="firing"}}'
    return f"max by (job, connection, alertname, severity) ({firing} or {pending})"


def state_number(selector: str) -> str:
    """The state of each instance's connection as a number, which `STATE_MAPPINGS` name."""
    each = [
        f'{number} * (moorings_connection_state{{{selector}, state="{state}"}} == 1)'
        for number, state in enumerate(State)
    ]
    return f"max by (job, instance, connection) ({' or '.join(each)})"


STOPPED_MAPPINGS: Final = (("-1", str(State.STOPPED), _COLOURS[State.STOPPED]),)


def ready_share(selector: str) -> str:
    """On which share of the instances that want it a connection is ready; -1 where none does.

    `STOPPED_MAPPINGS` name that: who was stopped on purpose is not in trouble.
    """
    stopped = f'moorings_connection_state{{{selector}, state="{State.STOPPED}"}} == 1'
    ready = f"moorings_connection_ready{{{selector}}} unless on ({INSTANCE}) ({stopped})"
    return f"avg by (job, connection) ({ready}) or -max by (job, connection) ({stopped})"


def quantile(share: float, histogram: str, by: str, selector: str) -> str:
    """How long all but the slowest took, of one of our histograms."""
    rates = f"rate({histogram}_bucket{{{selector}}}{RATE})"
    return f"histogram_quantile({share}, sum by ({by}, le) ({rates}))"


def of_runtime(expr: str) -> str:
    """What a runtime shows, with the one connection that is looked at as a further label."""
    info = f"moorings_connection_info{{{ONE}}}"
    own = f"max by (job, instance, runtime, connection) ({info})"
    return f"{expr} * on (job, instance, runtime) group_left (connection) {own}"


def of_process(expr: str) -> str:
    """What a process shows, with that connection as a further label."""
    info = f"moorings_connection_info{{{ONE}}}"
    own = f"max by (job, instance, connection) ({info})"
    return f"{expr} * on (job, instance) group_left (connection) {own}"
