"""Every fault in every state of a connection: states, reasons, bounds, metrics, handles.

The cells are data, in `faults/cells.py`; docs/faults.md is made of them. Each runs against real
servers, the first ones with a password that nothing may show, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import pytest
import trio
from faults.cells import CELLS, FAULTS
from faults.judge import judge
from faults.page import page
from faults.play import play
from faults.vocabulary import At, Place, World
from pymongo_sockets import UNCLOSED_BY_PYMONGO
from secrecy import PASSWORD, leaks

from moorings.providers import mongo_errors
from moorings.runtime.redaction import Redactor

if TYPE_CHECKING:
    from fault_fixtures import Rigs
    from faults.evidence import Outcome
    from faults.rig import Rig
    from faults.vocabulary import Cell

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"

pytestmark = [
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]


def run(cell: Cell, rig: Rig, world: World) -> Outcome:
    if world is World.TRIO:
        return trio.run(play, cell, rig, world)
    return asyncio.run(play(cell, rig, world))


EVERY = [
    pytest.param(cell, cell.fault.place, world, id=f"{cell}-{world.name.lower()}".replace(" ", "_"))
    for cell in CELLS
    for world in cell.worlds
]


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.parametrize(("cell", "place", "world"), EVERY)
@pytest.mark.usefixtures("faulty", "nothing_left")
def test_each_fault_in_each_state_goes_as_the_table_says(
    cell: Cell, place: Place, world: World, rigs: Rigs, caplog: pytest.LogCaptureFixture
) -> None:
    """Its five things, and that nothing shows the password nor is left behind."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "pymongo")
    outcome = run(cell, rigs(place), world)
    print(cell, *(f"{one} {one.at - outcome.struck:.2f} s" for one in outcome.entered), sep="\n  ")
    print(f"  over after {outcome.healed - outcome.struck:.2f} s, {outcome.moved}")
    assert not judge(cell, outcome)
    assert not leaks(everything(outcome, caplog))


def everything(outcome: Outcome, caplog: pytest.LogCaptureFixture) -> str:
    """All that this run has shown, or logged, the driver at DEBUG included."""
    records = [f"{record.__dict__!r} {record.getMessage()}" for record in caplog.records]
    shown = "\n".join([outcome.shown, *records, caplog.text])
    assert "topologyId" in shown, "the driver was not listened to"
    return shown


# -- the table


def test_the_page_is_made_of_the_table() -> None:
    """Else: `python -m tests.faults > docs/faults.md`."""
    assert PAGE.read_text() == page()


def test_every_fault_is_tried_in_every_state_that_it_has() -> None:
    """One that passes cannot be there before the connection is."""
    tried = [(cell.fault.name, cell.at) for cell in CELLS]
    passing = {(fault.name, At.STARTING) for fault in FAULTS if fault.passing}
    assert sorted(tried) == sorted({(f.name, at) for f in FAULTS for at in At} - passing)


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.usefixtures("faulty_server")
def test_the_search_finds_the_password_when_nothing_redacts(
    rigs: Rigs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same cell, the same search, but that errors are shown as they are."""
    monkeypatch.setattr(mongo_errors, "redact", lambda text, secrets=(): text)
    monkeypatch.setattr(Redactor, "redact", lambda self, text: text)
    cell = next(c for c in CELLS if (c.fault.name, c.at) == ("refuse", At.FAILED))
    outcome = run(cell, rigs(Place.NETWORK), World.TRIO)
    assert quote_plus(PASSWORD) in leaks(outcome.shown)
