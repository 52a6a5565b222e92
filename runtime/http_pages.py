"""The status page at `/`: one document, without a build step and without an asset elsewhere.

It is complete as it is served, for whoever allows no scripts. `page/page.js` then follows `/events`
and fills new texts into the same elements, so that what a row looks like is said here alone. Every
value goes through `html.escape` here, and through `textContent` there.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .history import DEPTH
from .http_probes import readyz
from .spans import duration
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .feed import Shown
    from .history import Step
    from .status import ConnectionStatus

_LINKS = ("readyz", "livez", "startupz", "connections", "metrics")
_COLUMNS = ("Connection", "State", "For", "Ping", "Next attempt", "Generation")
_GLYPHS: Mapping[str, str] = {
    State.INIT: "○",
    State.CONNECTING: "◐",
    State.READY: "✓",
    State.FAILED: "✕",
    State.STOPPED: "■",
}
"""A state's sign beside its name: nobody has to tell colours apart."""
_NOTHING = "\N{EN DASH}"
_MOST_NAMED = 5
"""How many of the unready are named at the top."""

_HERE = Path(__file__).with_name("page")
_STYLE = (_HERE / "page.css").read_text("utf-8")
_SCRIPT = (_HERE / "page.js").read_text("utf-8")
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M3 14h10v-2h-2V6h1V3H4v3h1v6H3z' fill='%233b82c4'/%3E%3C/svg%3E"
)


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


PAGE_HEADERS = (
    (
        b"content-security-policy",
        (
            f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'"
        ).encode(),
    ),
    (b"referrer-policy", b"no-referrer"),
)
"""Our own style and script, and nothing else, whatever an error's text may hold."""


def index(manager: Shown, root: str, now: float) -> Iterator[str]:
    """The connections as they are, and links to all else, in pieces.

    Args:
        manager: what to show.
        root: the path that the application is mounted under, without a slash at its end.
        now: in Unix seconds.
    """
    history, statuses = manager.keep_history(), manager.statuses()
    readiness = readyz(manager)
    healthy = readiness["status"] == "healthy"
    verdict = "Ready" if healthy else "Not ready"
    yield _HEAD.format(
        icon=_ICON,
        style=_STYLE,
        title=escape(f"{verdict} \N{EN DASH} {manager.name}"),
        runtime=escape(manager.name),
        at=_moment(now),
        healthy=str(healthy).lower(),
        verdict=escape(verdict),
        why=escape(_why(readiness, statuses)),
        head="".join(f'<th role="columnheader" scope="col">{name}</th>' for name in _COLUMNS),
        depth=DEPTH,
    )
    for status in statuses:
        yield _rows(status, history.of(status.name), now)
    links = "".join(f'<li><a href="{escape(root)}/{name}">/{name}</a></li>' for name in _LINKS)
    yield _FOOT.format(template=_template(), links=links, script=_SCRIPT)


def _why(readiness: Mapping[str, Any], statuses: Sequence[ConnectionStatus]) -> str:
    """What stands beside the verdict: what gates it, and what does not. As in `page.js`."""
    ready = sum(status.state is State.READY for status in statuses)
    checks, reasons = readiness["checks"], readiness["reasons"]
    failed = [name for name in reasons if checks.get(name, "fail") == "fail"]
    optional = [name for name in reasons if name not in failed]
    parts = [f"{ready} of {len(statuses)} connections ready."]
    for label, names in (("Failing", failed), ("Optional", optional)):
        if names:
            shown = [f"{name} ({reasons[name]})" for name in names[:_MOST_NAMED]]
            more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
            parts.append(f"{label}: {', '.join([*shown, *more])}.")
    return " ".join(parts)


@cache
def _template() -> str:
    """A row without a connection, for those that come while the page is open."""
    return _body({}, "")


def _rows(status: ConnectionStatus, steps: Iterable[Step], now: float) -> str:
    upcoming, ping = status.next_attempt_at, status.last_ping_seconds
    texts = {
        "name": status.name,
        "kind": f"{status.backend}, {'required' if status.required else 'optional'}",
        "state": status.state.value,
        "glyph": _GLYPHS[status.state],
        "since": duration(now - status.since),
        "ping": _NOTHING if ping is None else f"{ping * 1000:.1f} ms",
        "next": _next(status, upcoming, now),
        "generation": str(status.generation),
        "reason": status.reason.value if status.reason else "",
        "error": status.error or "",
    }
    return _body(texts, "".join(_step(step) for step in reversed(tuple(steps))))


def _next(status: ConnectionStatus, upcoming: float | None, now: float) -> str:
    if upcoming is not None:
        return f"in {duration(max(upcoming - now, 0.0))}"
    return f"attempt {status.attempt}" if status.attempt else _NOTHING


def _body(texts: Mapping[str, str], steps: str) -> str:
    """The rows of one connection. The roles: where the style makes cards of it, it is a table."""
    shown = {name: escape(texts.get(name, "")) for name in _FIELDS}
    return _ROWS.format(
        **shown,
        steps=steps,
        trouble="" if texts.get("reason") or texts.get("error") else " hidden",
        history="" if steps else " hidden",
        count=steps.count("<li>"),
    )


def _step(step: Step) -> str:
    why = ": ".join(part for part in (step.reason and step.reason.value, step.error) if part)
    return (
        f'<li>{_moment(step.at)} <span class="step">{step.source.value} → {step.target.value}'
        f"</span> <span>({step.event.value.replace('_', ' ')})</span>"
        f'<span class="why">{escape(why)}</span></li>'
    )


def _moment(at: float) -> str:
    when = datetime.fromtimestamp(at, UTC)
    return f'<time datetime="{when.isoformat()}">{when:%Y-%m-%d %H:%M:%S} UTC</time>'


_FIELDS = (
    "name",
    "kind",
    "state",
    "glyph",
    "since",
    "ping",
    "next",
    "generation",
    "reason",
    "error",
)

_ROWS = """<tbody role="rowgroup" data-name="{name}" data-state="{state}">
<tr role="row">
<th role="rowheader" scope="row"><span data-field="name">{name}</span>
<span class="kind" data-field="kind">{kind}</span></th>
<td role="cell" data-label="State"><span class="state"><span class="glyph" aria-hidden="true" \
data-field="glyph">{glyph}</span><span data-field="state">{state}</span></span></td>
<td role="cell" data-label="For" data-field="since">{since}</td>
<td role="cell" data-label="Ping" data-field="ping">{ping}</td>
<td role="cell" data-label="Next attempt" data-field="next">{next}</td>
<td role="cell" data-label="Generation" data-field="generation">{generation}</td>
</tr>
<tr role="row" class="more"><td role="cell" colspan="6">
<p class="trouble"{trouble}><span class="reason" data-field="reason">{reason}</span>
<span data-field="error">{error}</span></p>
<details{history}><summary>History of <span data-field="name">{name}</span> \
(<span data-field="count">{count}</span>)</summary><ol>{steps}</ol></details>
</td></tr>
</tbody>
"""

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{icon}">
<style>{style}</style>
</head>
<body data-depth="{depth}">
<header>
<h1>Moorings <span id="runtime">{runtime}</span></h1>
<p id="link" data-link="none"><span id="link-text">Not live: as of {at}</span></p>
</header>
<main>
<noscript><p class="notice">Without scripts this page is not live: reload it to see what has
changed.</p></noscript>
<p id="gone" class="notice" role="alert" hidden></p>
<section id="readiness" aria-label="Readiness" data-healthy="{healthy}">
<strong id="verdict">{verdict}</strong> <span id="why">{why}</span>
</section>
<table role="table">
<caption>Connections</caption>
<thead role="rowgroup"><tr role="row">{head}</tr></thead>
"""

_FOOT = """</table>
<template id="row"><table>{template}</table></template>
</main>
<footer>
<nav aria-label="Other pages"><ul>{links}</ul></nav>
</footer>
<p id="news" role="status" aria-live="polite"></p>
<script>{script}</script>
</body>
</html>
"""
