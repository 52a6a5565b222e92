"""docs/states.md: the table of the state machine, with its diagram."""

from __future__ import annotations

from typing import Final

from moorings.runtime.state import Event, State, edges

MEANS: Final = {
    Event.START: "it is started: by its manager, or by `start()`",
    Event.ESTABLISHED: "opened, pinged, verified, hooks run",
    Event.GAVE_UP: "this episode's attempts are used up, or the cause needs a person",
    Event.LOST: "proof of life is missing",
    Event.RETRY: "the long backoff is over, or was cut short by a driver's event or `restart()`",
    Event.CRASHED: "a bug: an unexpected error left the connection's task, which is restarted",
    Event.STOP: "`stop()`, or the end of the block",
}
IS: Final = {
    State.INIT: "not begun",
    State.CONNECTING: "an episode of attempts is under way",
    State.READY: "it may be used",
    State.FAILED: "waiting for the next episode; the reason says why",
    State.STOPPED: "stopped; its client is closed",
}


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "<!-- Made by `python -m tests.pages` from runtime/state.py. -->",
            "",
            "# The state machine",
            "",
            (
                "One table (`runtime/state.py`) holds every legal edge; the runtime, this page and "
                "`moorings states` read it."
            ),
            "An illegal event raises `IllegalTransition` and changes nothing.",
            "",
            (
                "![The states of a connection and the events between them; "
                "the table below says the same](images/states.svg)"
            ),
            "",
            "| state | means |",
            "|---|---|",
            *(f"| `{state}` | {IS[state]} |" for state in State),
            "",
            "| from | event | to | when |",
            "|---|---|---|---|",
            *(f"| `{s}` | `{event}` | `{t}` | {MEANS[event]} |" for s, event, t in edges()),
            "",
        ]
    )
