"""The state machine: the table is DESIGN's, and nothing but the table is possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.errors import IllegalTransition
from moorings.runtime.measurements import EDGE_INDEX, EDGES
from moorings.runtime.state import TRANSITIONS, Event, State, edges, transition

# Written out a second time, on purpose: the specification's own table.
SPECIFIED = {
    ("init", "start"): "connecting",
    ("init", "stop"): "stopped",
    ("connecting", "established"): "ready",
    ("connecting", "gave_up"): "failed",
    ("connecting", "crashed"): "failed",
    ("connecting", "stop"): "stopped",
    ("ready", "lost"): "connecting",
    ("ready", "crashed"): "failed",
    ("ready", "stop"): "stopped",
    ("failed", "retry"): "connecting",
    ("failed", "stop"): "stopped",
    ("stopped", "start"): "connecting",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_as_specified(state: State, event: Event) -> None:
    """All 35 pairs: the legal ones lead where DESIGN says, all others raise."""
    target = SPECIFIED.get((state.value, event.value))
    if target is None:
        with pytest.raises(IllegalTransition, match=f"no '{event.value}' in state"):
            transition(state, event)
    else:
        assert transition(state, event) is State(target)


def test_the_error_lists_what_would_be_legal() -> None:
    with pytest.raises(IllegalTransition, match=r"state 'failed' \(legal: retry, stop\)"):
        transition(State.FAILED, Event.ESTABLISHED)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_edges_are_the_table() -> None:
    found = {(source.value, event.value): target.value for source, event, target in edges()}
    assert found == SPECIFIED
    assert len(list(edges())) == len(SPECIFIED)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[State.INIT] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        TRANSITIONS[State.INIT][Event.LOST] = State.READY  # type: ignore[index]


@given(st.lists(st.sampled_from(Event), max_size=60))
def test_any_sequence_of_events_stays_within_the_machine(events: list[Event]) -> None:
    """Illegal events change nothing; legal ones make a step; stop is possible unless stopped."""
    state = State.INIT
    for event in events:
        try:
            following = transition(state, event)
        except IllegalTransition:
            assert (state.value, event.value) not in SPECIFIED
            continue
        assert following is not state
        assert SPECIFIED[state.value, event.value] == following.value
        state = following
    assert state is State.STOPPED or transition(state, Event.STOP) is State.STOPPED


def test_ready_is_entered_by_verification_only() -> None:
    """Nothing skips `connecting`: the only way into `ready` is `established`."""
    assert {(s, e) for s, e, t in edges() if t is State.READY} == {
        (State.CONNECTING, Event.ESTABLISHED)
    }


def test_members_hash_like_their_strings() -> None:
    """Both may be looked up by their value, as labels and JSON do."""
    assert {State.READY: 1}["ready"] == 1
    assert {Event.STOP: 1}["stop"] == 1


def test_counters_know_every_edge_once() -> None:
    """gave_up and crashed lead along one edge: metrics count edges."""
    assert set(EDGES) == {(s, t) for s, _, t in edges()}
    assert len(EDGES) == len(set(EDGES)) == 11
    assert [EDGE_INDEX[edge] for edge in EDGES] == list(range(11))
