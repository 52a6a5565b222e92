"""The events that may reach a connection, and which of them are possible now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Model

ANSWERS = {"+": "ok", "-": "refused", "#": "auth", "!": "bug"}
MOST_HOOKS = 2
MOST_COMMANDS = 2
COMMANDS = ("start", "stop", "restart")
SIGNALS = ("suspect", "lost", "usable")

ALPHABET = {
    "begin": "the tasks run for the first time",
    "ping": "the ping of the present client: answered +, refused -, no login #, a bug !",
    "hook": "the hook on the present client: done +, refused -, a bug !",
    "new": "the ping of a restart's new client: + - !",
    "new-hook": "the hook on a restart's new client: + - !",
    "suspect, lost, usable": "the driver's events, of the present client",
    "stray": "all three, of every other client that was ever opened",
    "on_ready": f"a hook is registered (at most {MOST_HOOKS})",
    "start, stop, restart": f"commands (at most {MOST_COMMANDS} at a time)",
    "cancel": "the caller of a command: of the one under way, or of the one that waits (2)",
    "unwait": "one of two who wait for the database is cancelled",
    "time": "passes until the next timer; a hanging call so comes to its bound",
    "abort": "the block is cancelled from outside; every other path ends by leaving it",
}


def possible(model: Model, *, time: bool = True) -> Iterator[str]:
    """What may happen next."""
    yield "abort"
    if model.state == "init":
        yield "begin"
        return
    yield from _answers(model)
    if model.client is not None:
        yield from SIGNALS
    if model.opened > (model.client is not None):
        yield "stray"
    if model.hooks < MOST_HOOKS:
        yield "on_ready"
    if len(model.commands) < MOST_COMMANDS:
        yield from COMMANDS
    for place, _ in enumerate(model.commands):
        yield "cancel2" if place else "cancel"
    if not model.served and model.state != "stopped":
        yield "unwait"
    if time and model.due():
        yield "time"


def _answers(model: Model) -> Iterator[str]:
    waiting = model.waiting_pings
    if model.client is not None and model.client.number in waiting:
        yield from ("ping+", "ping-", "ping#", "ping!")
    if model.new is not None and model.new.number in waiting:
        yield from ("new+", "new-", "new!")
    if model.client is not None and model.client.runner:
        yield from ("hook+", "hook-", "hook!")
    if model.new is not None and model.new.runner:
        yield from ("new-hook+", "new-hook-", "new-hook!")


def tell(model: Model, event: str) -> None:
    """Let the model have an event, `time` and the ends excepted."""
    match event:
        case "begin":
            model.begin()
        case "on_ready":
            model.register()
        case "suspect" | "lost" | "usable":
            model.hear(event)
        case "start" | "stop" | "restart":
            model.command(event)
        case "cancel" | "cancel2":
            model.cancel(model.commands[event == "cancel2"].number)
        case "stray" | "unwait":
            pass
        case _:
            answer = ANSWERS[event[-1]]
            what = {"ping": model.ping, "hook": model.hook}
            new = {"new": model.new_ping, "new-hook": model.new_hook}
            (what | new)[event[:-1]](answer)
