"""The status page in Debian's Chromium, on running programs whose databases and selves go away."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from mongod import free_port
from settings_files import mongo, settings, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from browser import Browser
    from cutting import Cutting
    from mongod import MongodFactory
    from processes import Program, Start

pytestmark = [pytest.mark.operators]

# The connection `flaky` is refused on SIGUSR1, and heals on SIGUSR2.
APP = """
import signal, trio

async def main(connections):
    faults = connections["flaky"].provider.faults
    with trio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        print("listening", flush=True)
        async for number in signals:
            faults.refuse() if number == signal.SIGUSR1 else faults.heal()
"""
REFUSE, HEAL = signal.SIGUSR1, signal.SIGUSR2

LOCAL: dict[str, Any] = {"backend": "local"}
FLAKY = LOCAL | {"retry": {"attempts": 1}, "supervision": {"backoff_max": 1.0}}
NOWHERE = mongo("mongodb://127.0.0.1:1/", retry={"attempts": 1})

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"
# The driver's own error quotes the name of the file that it cannot read.
CURSED = mongo("mongodb://127.0.0.1:1/", provider={"tls": {"ca_file": f"/{EVIL}{'x' * 300}"}})

AA = 4.5
"""The contrast that WCAG 2 asks of text."""


@pytest.fixture
def run(start: Start, tmp_path: Path) -> Callable[..., Program]:
    """Starts a program with these connections, `flaky` among them, on a port that stays."""
    (tmp_path / "app.py").write_text(APP)
    port = str(free_port())

    def begin(connections: dict[str, Any] | None = None, name: str = "orders") -> Program:
        write(tmp_path, settings({"flaky": FLAKY, **(connections or {})}, {"name": name}))
        program = start("run", "app:main", MOORINGS_RUNTIME__EXPORTER__PORT=port)
        program.said("listening")
        return program

    return begin


def row(name: str) -> str:
    return f'tbody[data-name="{name}"]'


def live(browser: Browser, program: Program) -> None:
    """Open the page, and wait until it follows."""
    browser.open(program.url() + "/")
    browser.shows("#link", "Live")


def mark(browser: Browser) -> None:
    """Leave something in the page that a reload would take away."""
    browser.script("window.mark = true")


def assert_marked(browser: Browser) -> None:
    assert browser.script("return window.mark === true"), "the page was reloaded"


# -- live


def test_a_change_of_state_appears_without_a_reload(browser: Browser, run: Any) -> None:
    """Its reason and error, the verdict, the title, the history, and what is read aloud."""
    program = run({"steady": LOCAL})
    live(browser, program)
    browser.shows("#verdict", "Ready")
    mark(browser)
    program.signal(REFUSE)
    browser.shows(row("flaky"), "refused")
    browser.shows(row("flaky"), "the in-memory server fails every call")
    browser.shows("#why", "1 of 2 connections ready. Failing: flaky (refused).")
    browser.until(lambda: browser.driver.title == "Not ready \N{EN DASH} orders", "another title")
    aloud = browser.script("return document.getElementById('news').textContent")
    assert "flaky is" in aloud
    program.signal(HEAL)
    browser.shows(row("flaky"), "ready")
    browser.shows("#verdict", "Ready")
    browser.until(lambda: "refused" not in browser.text(row("flaky")), "without a reason")
    summary = browser.script(f"return document.querySelector('{row('flaky')} summary').textContent")
    browser.script(f"document.querySelector('{row('flaky')} summary').click()")
    browser.shows(row("flaky") + " details", "ready → connecting (lost)")
    assert "History of flaky (" in summary
    assert_marked(browser)
    assert browser.errors() == []


@pytest.mark.mongod
def test_a_mongod_that_dies_and_is_back_is_seen(
    browser: Browser, run: Any, mongod_factory: MongodFactory
) -> None:
    server = mongod_factory()
    live(browser, run({"main": mongo(server.url)}))
    browser.shows(row("main"), "ready")
    browser.shows(row("main") + " [data-field=ping]", "ms")
    mark(browser)
    server.kill()
    browser.shows(row("main"), "refused")
    server.start()
    browser.shows(row("main"), "ready")
    browser.shows(row("main") + " [data-field=generation]", "1")
    assert_marked(browser)


def test_connections_that_a_reload_brings_and_takes_come_and_go(
    browser: Browser, run: Any, tmp_path: Path
) -> None:
    """And what was unfolded stays so."""
    program = run({"old": LOCAL})
    live(browser, program)
    browser.shows(row("old"), "ready")
    browser.script(f"document.querySelector('{row('flaky')} details').open = true")
    write(tmp_path, settings({"new": LOCAL, "flaky": FLAKY}, {"name": "orders"}))
    program.signal(signal.SIGHUP)
    browser.shows(row("new"), "ready")
    browser.until(lambda: not browser.text(row("old")), "without the old")
    names = browser.script("return [...document.querySelectorAll('tbody')].map(b=>b.dataset.name)")
    assert names == ["new", "flaky"]
    assert browser.script(f"return document.querySelector('{row('flaky')} details').open")
    assert browser.errors() == []


# -- and when it cannot be


def test_a_program_that_is_killed_and_back(browser: Browser, run: Any) -> None:
    """The page says so, keeps what it knew and calls it that, and recovers by itself."""
    program = run()
    live(browser, program)
    browser.shows(row("flaky"), "ready")
    mark(browser)
    program.signal(signal.SIGKILL)
    browser.shows("#gone", "The program does not answer.")
    browser.shows("#link", "No answer")
    assert "ready" in browser.text(row("flaky"))
    labels = browser.script(
        "return [...document.querySelectorAll('td[data-label=State]')]"
        ".map((cell) => getComputedStyle(cell, '::after').content)"
    )
    assert labels == ['"last known"']
    assert browser.driver.title == "No answer \N{EN DASH} orders"
    assert ("alert", "") in browser.accessible()
    program.ended()
    another = run({"later": LOCAL})
    browser.shows("#link", "Live")
    browser.shows(row("later"), "ready")
    assert browser.text("#gone") == ""
    assert_marked(browser)
    assert another.url() == program.url()


def test_a_program_that_freezes_and_thaws(browser: Browser, run: Any) -> None:
    """Its sockets stay open: only silence tells."""
    program = run()
    live(browser, program)
    program.signal(signal.SIGSTOP)
    browser.shows("#gone", "The program does not answer.")
    program.signal(signal.SIGCONT)
    browser.shows("#link", "Live")
    assert browser.text("#gone") == ""


def test_behind_a_proxy_that_cuts_every_stream_it_asks_slower_and_slower(
    browser: Browser, run: Any, cutting: Callable[[str], Cutting]
) -> None:
    """It says so, and shows what it is told; with none that is cut, it is live again."""
    program = run()
    proxy = cutting(program.url())
    browser.open(proxy.url + "/")
    first, second, third = proxy.until_streams(3)
    assert second - first > 0.9
    assert third - second > 1.9
    browser.shows("#link", "Again in 4 s (it was cut off)")
    program.signal(REFUSE)
    browser.shows(row("flaky"), "refused")
    proxy.cuts = False
    browser.shows("#link", "Live")


def test_a_program_that_stops_in_order_is_said_to_have(browser: Browser, run: Any) -> None:
    program = run()
    live(browser, program)
    program.signal(signal.SIGTERM)
    browser.shows("#gone", "The program has stopped.")
    browser.shows(row("flaky"), "stopped")
    assert program.ended() == 0


def test_beyond_the_bound_of_streams_it_asks_every_few_seconds(browser: Browser, run: Any) -> None:
    """And says so: it is not the program that is missing."""
    import http.client
    from contextlib import ExitStack, closing

    program = run()
    with ExitStack() as stack:
        for _ in range(16):
            address = program.url().removeprefix("http://")
            client = stack.enter_context(closing(http.client.HTTPConnection(address)))
            client.request("GET", "/events")
            client.getresponse().readline()
        browser.open(program.url() + "/")
        browser.shows("#link", "Every 5 s")
        browser.shows(row("flaky"), "ready")


def test_without_scripts_it_is_a_table_that_says_as_of_when(browser: Browser, run: Any) -> None:
    program = run()
    program.becomes_ready()
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(program.url() + "/")
    page = {name: role for role, name in browser.accessible()}
    assert any(name.startswith("Not live: as of") for name in page)
    assert any("Without scripts this page is not live" in name for name in page)
    assert page["flaky local, required"] == "rowheader"


@pytest.mark.parametrize("path", ["/moorings", "/moorings/"])
def test_it_is_live_wherever_an_application_mounts_it(
    browser: Browser, start_python: Any, tmp_path: Path, path: str
) -> None:
    """Under uvicorn, on asyncio."""
    write(tmp_path, settings({"main": LOCAL}))
    (tmp_path / "web.py").write_text(
        "import uvicorn\nfrom fastapi import FastAPI\n"
        "from moorings.runtime.web import install, lifespan\n"
        "app = FastAPI(lifespan=lifespan())\ninstall(app)\nuvicorn.run(app, port=0, ws='none')\n"
    )
    program = start_python("web.py")
    browser.open(program.url() + path)
    browser.shows("#link", "Live")
    browser.shows(row("main"), "ready")
    links = browser.script("return [...document.querySelectorAll('nav a')].map(a => a.href)")
    assert f"{program.url()}/moorings/readyz" in links


# -- for everybody


@pytest.fixture
def everything(run: Any, browser: Browser) -> Program:
    """A program that shows all there is: every colour, a long error, an open history."""
    optional = NOWHERE | {"required": False}
    program: Program = run({"steady": LOCAL, "nowhere": optional, "cursed": CURSED})
    live(browser, program)
    browser.shows(row("cursed"), "config")
    browser.shows(row("nowhere"), "refused")
    browser.script("for (const d of document.querySelectorAll('details')) d.open = true")
    return program


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_every_text_has_the_contrast_that_is_asked_of_it(
    browser: Browser, everything: Program, scheme: str, width: int
) -> None:
    """In every state, with all of it unfolded; and with the program gone."""
    browser.emulate(scheme=scheme, motion="reduce")
    browser.screen(width, 800, mobile=width < 500)
    # States that pass too quickly to be met.
    states = ["init", "connecting", "ready", "failed", "stopped"]
    for state in states:
        browser.script(f"document.querySelector('{row('flaky')}').dataset.state = '{state}'")
        poor = [found for found in browser.contrasts() if found[1] < AA]
        assert poor == [], state
    everything.signal(signal.SIGKILL)
    browser.shows("#gone", "does not answer")
    shown = browser.contrasts()
    assert len(shown) > 40
    assert [found for found in shown if found[1] < AA] == []


@pytest.mark.parametrize("width", [320, 390, 700, 1100])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, everything: Program, width: int
) -> None:
    """Nor than its column: with an error of three hundred letters without a space, too."""
    browser.screen(width, 800, mobile=width < 500)
    assert browser.script("return document.documentElement.scrollWidth") <= width
    assert browser.script("return innerWidth") == width  # else a phone has zoomed out for it
    everything.signal(signal.SIGKILL)
    browser.shows("#gone", "does not answer")
    assert browser.script("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('th, td')].filter((e) => e.checkVisibility())"
    assert browser.script(f"{wide}.filter((e) => e.scrollWidth > e.clientWidth + 1).length") == 0


def test_a_keyboard_reaches_the_history_and_sees_where_it_is(browser: Browser, run: Any) -> None:
    live(browser, run())
    focused = "const e = document.activeElement; return [e.tagName, e.textContent]"
    for _ in range(10):
        browser.press("Tab", 9)
        tag, text = browser.script(focused)
        if tag == "SUMMARY":
            break
    assert text.startswith("History of flaky")
    outline = "const s = getComputedStyle(document.activeElement); return s.outlineStyle"
    assert browser.script(outline) == "solid"
    browser.press("Enter", 13)
    browser.shows("details", "init → connecting (start)")


@pytest.mark.parametrize("width", [390, 1100])
def test_assistive_technology_is_told_what_everything_is(
    browser: Browser, everything: Program, width: int
) -> None:
    """On a phone as well, where the table looks like cards."""
    browser.screen(width, 800, mobile=width < 500)
    found = browser.accessible()
    roles = [role for role, _ in found]
    for landmark in ("banner", "main", "contentinfo"):
        assert roles.count(landmark) == 1
    assert ("heading", "Moorings orders") in found
    assert ("navigation", "Other pages") in found
    assert ("table", "Connections") in found
    assert ("region", "Readiness") in found
    assert "status" in roles
    headers = [name for role, name in found if role == "columnheader"]
    assert headers == ["Connection", "State", "For", "Ping", "Next attempt", "Generation"]
    assert ("rowheader", "steady local, required") in found
    assert roles.count("cell") >= 4 * 6
    assert any(n.startswith("History of steady (") for r, n in found if r == "DisclosureTriangle")
    unnamed = {"link", "button", "DisclosureTriangle", "heading", "table", "image"}
    assert [role for role, name in found if role in unnamed and not name] == []
    assert everything.url()


def test_motion_is_for_those_who_want_it(browser: Browser, run: Any) -> None:
    live(browser, run())
    motion = "return getComputedStyle(document.querySelector('.state')).transitionDuration"
    assert browser.script(motion) != "0s"
    browser.emulate(motion="reduce")
    assert browser.script(motion) == "0s"


# -- nobody else's


def test_an_errors_text_stays_text(browser: Browser, run: Any) -> None:
    """As it was served, and as it came live."""
    program = run({"cursed": CURSED}, name=EVIL)
    live(browser, program)
    browser.shows(row("cursed"), EVIL)
    browser.shows("h1", EVIL)
    browser.script("for (const d of document.querySelectorAll('details')) d.open = true")
    browser.shows(row("cursed") + " details", EVIL[:40])
    assert browser.script("return document.querySelectorAll('img, main script').length") == 0
    assert browser.errors() == []


def test_it_asks_nobody_but_its_own_server_and_the_console_is_empty(
    browser: Browser, everything: Program
) -> None:
    asked = browser.requests()
    assert f"{everything.url()}/events" in asked
    ours = (everything.url() + "/", "data:")
    assert [url for url in asked if not url.startswith(ours)] == []
    assert browser.errors() == []


def test_what_is_not_ours_is_not_run(browser: Browser, run: Any) -> None:
    """Should a text ever become markup: the browser itself refuses it."""
    live(browser, run())
    browser.script(
        "try { const s = document.createElement('script');"
        "s.textContent = 'window.owned = 1'; document.body.append(s) } catch {}"
    )
    assert browser.script("return window.owned === undefined")
    assert browser.errors()


def test_a_page_that_nobody_sees_holds_no_stream(browser: Browser, run: Any) -> None:
    """Browsers have six connections for a server: a seventh tab would wait for ever."""
    program = run()
    live(browser, program)
    first = browser.driver.current_window_handle
    for _ in range(6):
        browser.driver.switch_to.new_window("tab")
        browser.open(program.url() + "/")
        browser.shows("#link", "Live")
    for handle in browser.driver.window_handles:
        if handle != first:
            browser.driver.switch_to.window(handle)
            browser.driver.close()
    browser.driver.switch_to.window(first)
    browser.shows("#link", "Live")
