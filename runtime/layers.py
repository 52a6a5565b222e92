"""From files and the environment to one tree of plain values that knows where each came from.

pydantic-settings was tried for this and is not used: its sources hand on merged values without
their origin, and stop at the first one that cannot be read, whereas a problem here has to name
file and layer, and all of them are reported at once. What remains is merging tables.

Precedence, lowest first: `[default]` of every file in order, the environment's layer of every
file in order, `MOORINGS_…` variables. So a layer is over `[default]` wherever the two stand.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import SettingsProblem, did_you_mean
from .redaction import redact_urls

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_LAYER = "default"

# What is Moorings' own in a layer; the rest of the file belongs to others. None: all of it.
OWN_KEYS: Mapping[str, frozenset[str] | None] = {
    "database": frozenset({"documents", "default_document_connection"}),
    "security": frozenset({"secrets"}),
    "runtime": None,
}

# The double underscore matters: Kubernetes injects MOORINGS_RUNTIME_PORT and the like.
_OVERRIDE = re.compile(r"MOORINGS_(?:DATABASE|SECURITY|RUNTIME)__.*", re.IGNORECASE | re.DOTALL)
_PREFIX_LENGTH = len("MOORINGS_")

# No key that anything knows stands deeper; without a limit Python's own is met in odd places.
_DEEPEST = 64

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        file: a file's path, an environment variable's name, `mapping`, `program` or `default`.
        layer: the layer within that file; "" where there are none.
        rank: a later source overrides an earlier one.
    """

    file: str
    layer: str = ""
    rank: int = 0

    def __str__(self) -> str:
        return f"{self.file} [{self.layer}]" if self.layer else self.file


DEFAULT = Origin("default", rank=-1)


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed source: a file, or a mapping of the same shape."""

    name: str
    content: Mapping[str, Any]


@dataclass(slots=True)
class Layered:
    """The merged tree, the origin of each of its leaves, and what was wrong on the way."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    problems: list[SettingsProblem] = field(default_factory=list)
    _rank: int = 0

    def origin(self, path: KeyPath) -> Origin:
        """The origin of the value at `path`.

        A table is spoken for by the latest that changed it, a missing key by the first that
        began the table where it is missed.
        """
        if path in self.origins:
            return self.origins[path]
        for length in range(len(path), 0, -1):
            start = path[:length]
            near = [o for key, o in self.origins.items() if key[:length] == start]
            if near:
                choose = max if length == len(path) else min
                return choose(near, key=lambda origin: origin.rank)
        return DEFAULT

    def merge(self, documents: list[Document], layers: tuple[str, ...]) -> None:
        """Lay the `layers` of all documents over each other, lowest first."""
        for layer in layers:
            for document in documents:
                if layer in document.content:
                    self._merge_layer(document, layer)
        for document in documents:
            for name, table in document.content.items():
                if name not in layers and not is_layer(table):
                    self._belongs_to_others(name)

    def override(self, environ: Mapping[str, str]) -> None:
        """Lay the `MOORINGS_…` variables over everything else."""
        taken: dict[KeyPath, str] = {}
        for variable in sorted(environ):
            if _OVERRIDE.fullmatch(variable) is None:
                continue
            path = self._resolve(variable[_PREFIX_LENGTH:].split("__"))
            cure = self._refuse_override(path)
            if cure is not None:
                self._problem(variable, "", path, "is not known", cure)
            elif path in taken:
                problem = f"is set by {taken[path]} as well"
                self._problem(variable, "", path, problem, "Unset one of the two")
            else:
                taken[path] = variable
                self._rank += 1
                origin = Origin(variable, rank=self._rank)
                self._set(path, parse_override(environ[variable]), origin)

    def _merge_layer(self, document: Document, layer: str) -> None:
        self._rank += 1
        origin = Origin(document.name, layer, self._rank)
        content = document.content[layer]
        if not isinstance(content, Mapping):
            self._problem(document.name, layer, (), "should be a table", "Write [default.…] tables")
            return
        for section, table in content.items():
            if section not in OWN_KEYS:
                self._belongs_to_others(f"{layer}.{section}")
            elif not isinstance(table, Mapping):
                cure = f"Write a table: [{layer}.{section}.…]"
                self._problem(document.name, layer, (section,), "should be a table", cure)
            else:
                own = OWN_KEYS[section]
                for key, value in table.items():
                    if own is None or key in own:
                        self._set((section, str(key)), value, origin)
                    else:
                        self._belongs_to_others(f"{layer}.{section}.{key}")

    def _set(self, path: KeyPath, value: Any, origin: Origin) -> None:
        if len(path) > _DEEPEST:
            cure = "Remove the levels that are too many"
            self._problem(origin.file, origin.layer, path, "is nested too deeply", cure)
            return
        if isinstance(value, Mapping):
            if not isinstance(self._get(path), dict):
                self._put(path, {})
                self.origins.pop(path, None)
            if not value:
                # An empty table has no leaves to remember where it came from.
                self.origins.setdefault(path, origin)
            for key, inner in value.items():
                self._set((*path, str(key)), inner, origin)
            return
        if isinstance(self._get(path), dict):
            self._forget(path)
        self._put(path, value)
        self.origins[path] = origin

    def _get(self, path: KeyPath) -> Any:
        at: Any = self.tree
        for step in path:
            if not isinstance(at, dict):
                return None
            at = at.get(step)
        return at

    def _put(self, path: KeyPath, value: Any) -> None:
        at = self.tree
        for depth, step in enumerate(path[:-1], start=1):
            inner = at.get(step)
            if not isinstance(inner, dict):
                self.origins.pop(path[:depth], None)
                inner = at[step] = {}
            at = inner
        at[path[-1]] = value

    def _forget(self, path: KeyPath) -> None:
        for key in [key for key in self.origins if key[: len(path)] == path]:
            del self.origins[key]

    def _resolve(self, steps: list[str]) -> KeyPath:
        """The key that a variable means: one that is there, in any case, else in lower case."""
        path: KeyPath = ()
        for step in steps:
            table = self._get(path)
            known = table if isinstance(table, dict) else {}
            same = (key for key in known if key.lower() == step.lower())
            path = (*path, next(same, step.lower()))
        return path

    def _refuse_override(self, path: KeyPath) -> str | None:
        """Why no variable may set `path`, as a cure; None if one may."""
        section, key = path[0], path[1]
        own = OWN_KEYS[section]
        if own is not None and key not in own:
            return did_you_mean(key, own)
        if not all(path):
            return "Write one double underscore between two levels, and none at the end"
        return None

    def _belongs_to_others(self, key: str) -> None:
        key = redact_urls(key)
        if key not in self.foreign:
            self.foreign.append(key)

    def _problem(self, file: str, layer: str, path: KeyPath, problem: str, cure: str) -> None:
        key = redact_urls(".".join(path))
        self.problems.append(SettingsProblem(file, layer, key, problem, cure))


def misplaced(document: Document, layer: str) -> list[SettingsProblem]:
    """Problems for every table of Moorings' own that stands at the top, outside of any layer."""
    return [
        SettingsProblem(
            file=document.name,
            layer="",
            key=name,
            problem="stands outside of any layer",
            cure=f"Write [{layer}.{name}.…] instead of [{name}.…]",
        )
        for name, table in document.content.items()
        if is_section(name, table)
    ]


def is_section(name: str, table: Any) -> bool:
    """Whether a top-level table is one of Moorings' own whose layer was forgotten."""
    own = OWN_KEYS.get(name, frozenset())
    return isinstance(table, Mapping) and (own is None or not own.isdisjoint(table))


def is_layer(table: Any) -> bool:
    """Whether a top-level table looks like a layer, of whatever environment."""
    return isinstance(table, Mapping) and any(
        is_section(name, section) for name, section in table.items()
    )


def parse_override(text: str) -> Any:
    """A variable's value: JSON or TOML if it is a table or an array, else the text itself.

    Numbers and the like stay text: the model knows what the key should be, and a password of
    digits is no number.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return text
    for parse in (json.loads, lambda value: tomllib.loads(f"value = {value}")["value"]):
        try:
            return parse(text)
        except (ValueError, RecursionError):
            continue
    return text


def read_document(path: Path) -> Document | SettingsProblem:
    """Parse one TOML file; a problem, never an exception, if that cannot be done."""
    try:
        # Editors on Windows begin UTF-8 with a byte order mark, which tomllib refuses. With a
        # newline at the very end errors there have a line and a column too.
        text = path.read_bytes().decode().removeprefix("\ufeff")
        return Document(str(path), tomllib.loads(text + "\n"))
    except FileNotFoundError:
        problem, cure = "does not exist", "Create it, or name another file"
    except IsADirectoryError:
        problem, cure = "is a directory", "Name a TOML file in it"
    except OSError as error:
        problem, cure = f"cannot be read ({error.strerror})", "Mend its path or its permissions"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem, cure = f"is not UTF-8 (line {line})", "Save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        problem, cure = f"is not TOML: {error}", "Mend the syntax there"
    except RecursionError:
        problem, cure = "is nested too deeply", "Remove the brackets that are too many"
    except ValueError as error:  # an integer of thousands of digits, a path with a null character
        problem, cure = f"cannot be read ({error})", "Mend what that says"
    return SettingsProblem(str(path), "", "", problem, cure)
