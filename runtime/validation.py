"""From pydantic's errors to faults that people can mend, without the values that caused them.

Pydantic speaks of the branches of unions and of validator functions; whoever wrote the TOML knows
keys. And what a provider's model says may quote its input, which may be a secret: it is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from ..errors import did_you_mean
from ..providers.references import SecretReference
from .redaction import MASK, Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one key, and what to do; `path` is relative to the validated model."""

    path: Path
    problem: str
    cure: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error is: its keys, the model that should hold the last one, the kind of field."""

    path: Path
    parent: Any
    is_secret: bool = False


def find_faults(
    model: type[BaseModel], error: ValidationError, hide: Callable[[str], str] = str
) -> list[Fault]:
    """The faults behind `error`, at most one per key, in the order of the model.

    Args:
        model: what was validated against.
        error: what came of it.
        hide: takes out of a message what must not be seen.
    """
    found: dict[Path, Fault] = {}
    for details in error.errors(include_url=False):
        fault = _fault(_place(model, details["loc"]), details, hide)
        found.setdefault(fault.path, fault)
    # The branches of a union fail together. The one that got further says more: "tls.ca is
    # missing" rather than "tls should be a boolean".
    return [
        fault
        for path, fault in found.items()
        if not any(len(other) > len(path) and other[: len(path)] == path for other in found)
    ]


def hider(values: Any) -> Callable[[str], str]:
    """A function that takes every text in `values`, a nested structure, out of a message."""
    texts = sorted({text for text in _texts(values) if text.strip()}, key=len, reverse=True)
    redactor = Redactor(texts)
    # As a word of its own: short ones, such as "a", are inside every sentence.
    whole = [re.compile(rf"(?<!\w){re.escape(text)}(?!\w)") for text in texts]

    def hide(message: str) -> str:
        for pattern in whole:
            message = pattern.sub(MASK, message)
        return redactor.redact(message)

    return hide


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case SecretStr():
            yield value.get_secret_value()
        case Mapping():
            # A reference is no secret, and a short path such as "db" is in many a sentence.
            for item in (
                () if value.keys() == SecretReference.model_fields.keys() else value.values()
            ):
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def _fault(place: _Place, details: ErrorDetails, hide: Callable[[str], str]) -> Fault:
    if place.is_secret:
        return Fault(place.path, *_secret_fault(details["input"]))
    return Fault(place.path, *_plain_fault(place, details, hide))


def _plain_fault(
    place: _Place, details: ErrorDetails, hide: Callable[[str], str]
) -> tuple[str, str]:
    match details["type"]:
        case "missing":
            return "is missing", "Set it"
        case "extra_forbidden":
            keys = _keys(place.parent)
            return "is not known", did_you_mean(place.path[-1], keys) if keys else "Remove it"
        case "illegal_name":
            return "is not a legal name", f"Rename it: {details['msg']}"
        case "model_type" | "dict_type" | "mapping_type":
            return "should be a table", "Write a table, or keys below it"
        case "value_error" | "assertion_error":
            # pydantic's prefix, "Value error, " or "Assertion failed, "
            return hide(details["msg"].split(", ", 1)[-1]).rstrip("."), "Correct it"
        case kind:
            # "Input should be …", "String should have …": the key is the subject here.
            said = "should be a path" if kind == "path_type" else details["msg"]
            message = re.sub(r"^[A-Z]\w+ (?=should )", "", said)
            return hide(message).rstrip("."), _cure(kind)


def _cure(kind: str) -> str:
    if kind.startswith(("greater_than", "less_than", "finite_number")):
        return "Choose a number in that range"
    if kind.endswith(("_too_short", "_too_long", "_pattern_mismatch")):
        return "Correct it"
    return _CURES.get(kind.split("_", maxsplit=1)[0], "Correct it")


# By the first word of pydantic's names of errors: bool_type and bool_parsing, say, are alike here.
_CURES = {
    "bool": "Write true or false",
    "enum": "Choose one of these",
    "float": "Write a number",
    "int": "Write a whole number",
    "literal": "Choose one of these",
    "number": "Write a number",
    "order": "Raise the one, or lower the other",
    "path": "Write a path in quotes",
    "string": "Write a text in quotes",
}


def _secret_fault(value: Any) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return (
            "is a malformed reference to a secret",
            'Write { path = "…", key = "…" }, both not empty, and nothing else',
        )
    return (
        "should be a string, or a reference to a secret",
        'Write "…" or { path = "…", key = "…" }',
    )


def _place(model: type[BaseModel], loc: Sequence[int | str]) -> _Place:
    """Translate pydantic's `loc`, walking along the model's annotations."""
    path: list[str] = []
    at: Any = model
    parent: Any = None
    for step in loc:
        branches = _branches(at)
        if SecretReference in branches:
            return _Place(tuple(path), parent, is_secret=True)
        if len(branches) > 1:
            # This step names a branch of the union, and no key: "Tls", or, where the model has
            # validators of its own, "function-after[check(), Tls]".
            words = re.findall(r"\w+", str(step))
            at = next((b for b in branches if getattr(b, "__name__", None) in words), None)
        elif step != "[key]":
            parent, at = at, _child(branches[0], step)
            path.append(str(step))
    return _Place(tuple(path), parent)


def _branches(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, None aside; anything else is its own only alternative."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        branches = (b for a in get_args(annotation) if a is not type(None) for b in _branches(a))
        return tuple(branches)
    return (annotation,)


def _child(annotation: Any, step: int | str) -> Any:
    """What the key `step` of `annotation` should be; None where that is not known."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if step in (name, field.alias):
                return field.annotation
        return None
    arguments = get_args(annotation)
    return arguments[-1] if arguments else None


def _keys(annotation: Any) -> list[str]:
    models = [b for b in _branches(annotation) if isinstance(b, type) and issubclass(b, BaseModel)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]
