"""`python -m tests.screenshots`: the pictures of the status page that docs/status.md shows.

A real program, Debian's Chromium, and no touching up.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))  # where what tests share is found

from browser import chromium
from mongod import free_port
from processes import Program, clean_environ
from settings_files import mongo, settings, write

if TYPE_CHECKING:
    from browser import Browser

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 150_000
"""What a picture may weigh, in bytes."""

APP = """
import trio

async def main(connections):
    await connections.wait_ready("orders", "sessions")
    connections["reports"].provider.faults.refuse()
    await trio.sleep_forever()
"""
LOCAL: dict[str, Any] = {"backend": "local", "health": {"interval": 1.0}}
CONNECTIONS = {
    "orders": LOCAL,
    "sessions": LOCAL,
    "billing": mongo(
        "mongodb://127.0.0.1:1/", supervision={"backoff_initial": 30.0, "backoff_max": 30.0}
    ),
    "reports": LOCAL
    | {"required": False, "supervision": {"backoff_initial": 20.0, "backoff_max": 20.0}},
}


def main() -> int:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        write(folder, settings(CONNECTIONS, {"name": "shop"}))
        environ = clean_environ(MOORINGS_RUNTIME__EXPORTER__PORT=str(free_port()))
        program = Program("-m", "moorings", "run", "app:main", cwd=folder, environ=environ)
        try:
            take_all(browser, program)
        finally:
            program.finish()
    return 0


def take_all(browser: Browser, program: Program) -> None:
    """Light, dark, a phone's, and the program gone."""
    browser.fresh()
    browser.screen(1000, 740)
    browser.emulate(motion="reduce")
    browser.open(program.url() + "/")
    browser.shows("#link", "Live")
    for name in ("reports", "billing"):
        browser.shows(f'tbody[data-name="{name}"]', "failed")
    browser.shows("[data-name=sessions] [data-field=ping]", "ms")
    browser.script("document.querySelector('[data-name=billing] details').open = true")
    take(browser, "light")
    browser.emulate(scheme="dark", motion="reduce")
    take(browser, "dark")
    browser.emulate(motion="reduce")
    browser.screen(390, 844, mobile=True)
    take(browser, "phone")
    browser.screen(1000, 740)
    program.signal(signal.SIGKILL)
    browser.shows("#gone", "does not answer")
    take(browser, "gone")


def take(browser: Browser, name: str) -> None:
    """One picture."""
    file = IMAGES / f"status-{name}.png"
    file.write_bytes(browser.picture())
    size = file.stat().st_size
    print(f"{file}: {size} bytes")
    if size > LARGEST:
        raise SystemExit(f"{file} weighs more than {LARGEST} bytes")


if __name__ == "__main__":
    sys.exit(main())
