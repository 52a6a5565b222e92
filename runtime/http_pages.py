"""The page at `/`, made of strings: every value goes through `html.escape`."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .status import ConnectionStatus

_LINKS = ("readyz", "livez", "startupz", "connections", "metrics")


def index(statuses: Iterable[ConnectionStatus], root: str) -> str:
    """The connections as they are, and links to all else.

    Args:
        statuses: what to show.
        root: the path that the application is mounted under, without a slash at its end.
    """
    links = " · ".join(f'<a href="{escape(root)}/{name}">{name}</a>' for name in _LINKS)
    rows = "".join(map(_row, statuses))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Moorings</title>'
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}"
        "</style></head><body><h1>Moorings</h1>"
        "<table><tr><th>connection</th><th>backend</th><th>state</th><th>why</th></tr>"
        f"{rows}</table><p>{links}</p></body></html>\n"
    )


def _row(status: ConnectionStatus) -> str:
    why = ": ".join(part for part in (status.reason, status.error) if part)
    cells = (status.name, status.backend, status.state.value, why)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
