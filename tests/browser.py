"""Debian's Chromium, as tests and screenshots drive it: without a window, and with nothing faked.

What Selenium has no words for is said in those of the DevTools protocol.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome

SECONDS = 30.0
"""How long anything that was asked for may take to happen."""

SEEN = """
const element = document.querySelector(arguments[0]);
return element && element.checkVisibility() ? element.innerText : "";
"""

# Each text that is seen, with its contrast to what is behind it (WCAG 2, relative luminance).
CONTRASTS = """
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = parse(getComputedStyle(e).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
    if (color[3] !== 0) throw new Error("a translucent background");
  }
  return [255, 255, 255];
};
const ratio = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const found = [];
const see = (element, pseudo, text) => {
  const style = getComputedStyle(element, pseudo);
  found.push([text, ratio(parse(style.color), behind(element))]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT);
for (let e = walker.currentNode; e; e = walker.nextNode()) {
  if (!e.checkVisibility() || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
  const own = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
  if (own) see(e, null, own);
  for (const pseudo of ["::before", "::after"]) {
    const content = getComputedStyle(e, pseudo).content;
    if (!["none", "normal", '""'].includes(content)) see(e, pseudo, content);
  }
}
return found;
"""


class Browser:
    """One tab. Every test gets it as new."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def fresh(self) -> None:
        """Forget the last test: its page, its emulated media and sizes, and what was logged."""
        self.driver.get("about:blank")
        self.command("Emulation.setScriptExecutionDisabled", value=False)
        self.emulate()
        self.screen(1100, 700)
        self.errors()
        self.requests()

    def emulate(self, *, scheme: str = "light", motion: str = "no-preference") -> None:
        """What the user prefers."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        self.command(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features.items()],
        )

    def screen(self, width: int, height: int, *, mobile: bool = False) -> None:
        """The window's inside, in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def open(self, url: str) -> None:
        self.driver.get(url)

    def script(self, code: str, *arguments: Any) -> Any:
        """What a function body returns, run in the page."""
        return self.driver.execute_script(code, *arguments)

    def text(self, selector: str) -> str:
        """What is seen of the first such element; empty where nothing is."""
        return str(self.script(SEEN, selector))

    def until(self, what: Callable[[], object], text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not what():
            if time.monotonic() > deadline:
                pytest.fail(f"never {text}:\n{self.text('body')}")
            time.sleep(0.02)

    def shows(self, selector: str, text: str) -> None:
        """Wait until `text` is seen in the first such element."""
        self.until(lambda: text in self.text(selector), f"{text!r} in {selector}")

    def errors(self) -> list[str]:
        """What the console has complained of since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses that were asked since this was last asked."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def press(self, key: str, code: int) -> None:
        """Press a key, as a keyboard does."""
        text = "\r" if key == "Enter" else ""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    def accessible(self) -> list[tuple[str, str]]:
        """Role and name of all that assistive technology is told of, in order."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]

    def contrasts(self) -> list[tuple[str, float]]:
        """Every text that is seen, with its contrast."""
        return [(text, ratio) for text, ratio in self.script(CONTRASTS)]

    def picture(self) -> bytes:
        """The window's inside as a PNG."""
        data = self.command("Page.captureScreenshot", format="png")["data"]
        return base64.b64decode(data)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of our own.

    Raises:
        FileNotFoundError: Chromium or its driver is missing.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument("--force-color-profile=srgb")
    options.add_argument("--lang=en-GB")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(_program("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: .ci/debian installs it")
    return found


@pytest.fixture(scope="session")
def running_browser() -> Iterator[Browser]:
    """The one that all tests share."""
    # A failure and not a skip where it is missing: nobody would know what operators see.
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(running_browser: Browser) -> Browser:
    """Chromium, as new."""
    running_browser.fresh()
    return running_browser
