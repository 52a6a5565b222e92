"""The status page as it is served: complete without its script, and closed to everybody else's."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from served import FakeManager, connection

from moorings.errors import FailureReason
from moorings.runtime import http_pages
from moorings.runtime.http_pages import PAGE_HEADERS, index
from moorings.runtime.state import Event, State

NOW = 1_700_000_000.0


def page(*connections: Any, **manager: Any) -> str:
    return "".join(index(FakeManager(list(connections), **manager), "", NOW))


def why(text: str) -> str:
    found = re.search(r'<span id="why">(.*?)</span>', text)
    assert found is not None
    return found[1]


def test_it_shows_everything_without_a_script() -> None:
    failed = connection(
        "billing",
        State.FAILED,
        since=NOW - 62,
        reason=FailureReason.REFUSED,
        error="nobody listens",
        next_attempt_at=NOW + 12,
        generation=3,
    )
    text = page(connection("orders", since=NOW - 5, last_ping_seconds=0.0012), failed)
    for shown in ("orders", "billing", "1.2 ms", "1 m 2 s", "in 12 s", "refused", "nobody listens"):
        assert f">{shown}<" in text
    assert "Not live: as of" in text
    assert "2023-11-14 22:13:20 UTC" in text
    assert "<noscript>" in text


def test_an_attempt_under_way_is_numbered() -> None:
    assert ">attempt 3<" in page(connection("a", State.CONNECTING, attempt=3))


def test_the_verdict_names_what_gates_it_and_beside_it_what_does_not() -> None:
    ready, optional = connection("a"), connection("b", State.FAILED, required=False)
    assert 'data-healthy="true"' in page(ready)
    assert why(page(ready, optional)) == "1 of 2 connections ready. Optional: b (failed)."
    text = page(ready, optional, connection("c", State.STOPPED), checks={"disk": lambda: False})
    assert 'data-healthy="false"' in text
    assert why(text) == (
        "1 of 3 connections ready. Failing: c (stopped), disk (false). Optional: b (failed)."
    )
    assert "Failing: kernel (closing)" in page(ready, closing=True)


def test_of_many_failing_some_are_named() -> None:
    text = page(*(connection(f"c{n}", State.FAILED) for n in range(8)))
    assert "c4 (failed), 3 more." in why(text)


def test_the_history_is_there_newest_first() -> None:
    manager = FakeManager([connection("a", State.CONNECTING)])
    manager.step(0, Event.GAVE_UP, since=NOW, reason=FailureReason.DNS, error="<no such name>")
    manager.step(0, Event.RETRY, since=NOW + 1)
    text = "".join(index(manager, "", NOW))
    assert text.index("failed → connecting") < text.index("connecting → failed")
    assert "(gave up)" in text
    assert "dns: &lt;no such name&gt;" in text
    assert "<details hidden>" in page(connection("a"))


def test_its_own_style_and_script_are_all_that_may_run() -> None:
    """The hashes are those of what is in the page; a browser refuses all else."""
    text = page(connection("a"))
    policy = dict(PAGE_HEADERS)[b"content-security-policy"].decode()
    for kind in ("style", "script"):
        [content] = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"\son\w+=|\sstyle=", text) == []
    assert re.findall(r"https?://", text.replace("http://www.w3.org/2000/svg", "")) == []


def test_page_and_script_agree() -> None:
    """What both of them say they say alike: signs, bounds, and the fields that are filled in."""
    script = http_pages._SCRIPT
    for state, glyph in http_pages._GLYPHS.items():
        assert f'{state}: "{glyph}"' in script
    assert f"MOST_NAMED = {http_pages._MOST_NAMED};" in script
    assert {f for f in http_pages._FIELDS if f'"{f}"' not in script} == set()
    ids = set(re.findall(r'get\("(\w+)"\)', script))
    assert {name for name in ids if f'id="{name}"' not in page()} == set()
