"""`python -m tests.pages.offline FOLDER`: does a site fetch anything from elsewhere?

Links may lead there. But a reader behind a firewall sees the whole site, and nobody else hears of
the reading.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

FETCHING = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}
"""Elements whose addresses a browser fetches by itself."""
_ELSEWHERE = re.compile(r"(https?:)?//")
_IN_STYLES = re.compile(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"](https?:[^'\"]+)")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in FETCHING:
            found = [value for name, value in attrs if name in {"href", "src", "srcset"} and value]
            self.fetched += [value for value in found if _ELSEWHERE.match(value)]


def fetched(file: Path) -> list[str]:
    """What `file` would have a browser fetch from elsewhere."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".css":
        return [one or other for one, other in _IN_STYLES.findall(text)]
    page = _Page()
    page.feed(text)
    return page.fetched


def main(folder: Path) -> int:
    """Print what is found; 1 if there is any, or no page at all."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in {".css", ".html"}]
    found = [f"{file}: {address}" for file in files for address in fetched(file)]
    print("\n".join(found) or f"{len(files)} files, nothing fetched from elsewhere")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
