"""The pages of docs/ that are made by code are current, and the site asks nobody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from pages import offline, settings
from pages.__main__ import MADE
from pages.snippets import DOCS

import moorings
import moorings.supervisors
from moorings.runtime import web
from moorings.runtime.state import edges

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.mark.parametrize("name", sorted(MADE))
def test_each_made_page_is_current(name: str) -> None:
    """`make pages` writes it anew."""
    assert (DOCS / name).read_text() == MADE[name]()


def test_the_diagram_has_every_event_of_the_table() -> None:
    drawn = ET.fromstring((DOCS / "images" / "states.svg").read_text())
    arrows = [g for g in drawn if g.get("class") == "edge"]
    events = [text.text for arrow in arrows for text in arrow if text.tag.endswith("text")]
    assert sorted(map(str, events)) == sorted(event.value for _, event, _ in edges())


def test_every_field_of_every_settings_model_is_explained() -> None:
    for table in settings.TABLES:
        missing = table.model.model_fields.keys() - settings.meanings(table.model).keys()
        assert not missing, table.name


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.name)
def test_every_page_is_found_from_the_first(page: Path) -> None:
    index = (DOCS / "index.md").read_text()
    name = str(page.relative_to(DOCS).with_suffix(""))
    listed = re.findall(r"^(\w[\w/]*)$", index, re.MULTILINE)
    assert name in {*listed, "index"}


@pytest.mark.parametrize("module", [moorings, moorings.supervisors, web])
def test_the_reference_has_every_public_name(module: ModuleType) -> None:
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]*\.)?(\w+)", pages, re.MULTILINE))
    assert set(module.__all__) - {"supervisors"} <= listed


def test_what_is_fetched_from_elsewhere_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offline.main(tmp_path) == 1  # nothing is no site
    page, style = tmp_path / "a.html", tmp_path / "a.css"
    page.write_text('<a href="https://example.org/">x</a><img src="x.png">')
    style.write_text("p { background: url('x.png') }")
    assert offline.main(tmp_path) == 0
    page.write_text('<script src="//example.org/x.js"></script>')
    style.write_text("@import 'https://example.org/x.css'; p { background: url(https://e.org/) }")
    capsys.readouterr()
    assert offline.main(tmp_path) == 1
    assert len(capsys.readouterr().out.splitlines()) == 3
