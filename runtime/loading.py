"""Settings from files, mappings and the environment: every problem at once, each with its origin.

`layers` merges, `settings` validates, `preparation` asks the registry; here they meet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import SettingsError, SettingsProblem, did_you_mean
from ..providers.registry import DocumentDatabaseRegistry
from .layers import (
    DEFAULT,
    DEFAULT_LAYER,
    OWN_KEYS,
    Document,
    Layered,
    Origin,
    is_layer,
    misplaced,
    read_document,
)
from .preparation import Check, prepare
from .settings import Settings
from .validation import Fault, find_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    StrPath = str | os.PathLike[str]
    Source = Settings | StrPath | Sequence[StrPath] | Mapping[str, Any]

SETTINGS_VARIABLE = "MOORINGS_SETTINGS"
ENV_VARIABLE = "MOORINGS_ENV"
DEFAULT_FILE = "settings.toml"

# It becomes the name of a file and of a table.
_ENV_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings that are fit to be used, and where they come from.

    Attributes:
        settings: validated; every enabled `provider` is an instance of its backend's model.
        origins: by dotted key, where each value comes from; what is not in it is a default.
        foreign: dotted keys that were read and left alone, as they belong to others.
        files: the files that were read, in the order they override each other.
        env: the environment whose layer was laid over `default`; None without one.
        again: loads the same sources once more, by the same environment; errors as
            `load_settings`.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    foreign: tuple[str, ...]
    files: tuple[Path, ...]
    env: str | None
    # Neither shown nor compared: a mapping that it holds may hold passwords.
    again: Callable[[], LoadedSettings] = field(repr=False, compare=False)

    def origin(self, key: str) -> Origin:
        """Where the value at a dotted key comes from: `DEFAULT` if nobody set it."""
        return self.origins.get(key, DEFAULT)


def load_settings(
    source: Source | None = None,
    *,
    env: str | None = None,
    registry: DocumentDatabaseRegistry | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read, merge and validate settings. Blocks on small files; call it before anything runs.

    Args:
        source: `Settings` are only prepared (no file, no variable is read). A path or a sequence
            of paths to TOML files, later ones over earlier ones, each followed by `<env>.toml`
            beside it if there is one. Or a mapping of the TOML's shape, layers included. None, or
            no paths: the files that `MOORINGS_SETTINGS` names, else `./settings.toml`.
        env: the layer to lay over `default`. None: `MOORINGS_ENV`; without it, only `default`.
        registry: knows the backends. None: what is installed.
        environ: None: the process's own environment.

    Raises:
        SettingsError: with all `problems`, each with file, layer, key and cure.
        UnknownBackend: the only problems are backends that nobody registered.
    """
    registry = DocumentDatabaseRegistry.default() if registry is None else registry
    environ = os.environ if environ is None else environ
    if isinstance(source, Settings):
        again = partial(load_settings, source, env=env, registry=registry, environ=environ)
        return LoadedSettings(prepare(source, registry), MappingProxyType({}), (), (), env, again)
    env = _environment(env, environ)
    found = source if isinstance(source, Mapping) else _paths(source, environ)
    documents, files = _read(found, env)
    layers = (DEFAULT_LAYER,) if env in (None, DEFAULT_LAYER) else (DEFAULT_LAYER, env)
    _require_layers(documents, layers, env_file=any(file.name == f"{env}.toml" for file in files))
    layered = Layered()
    layered.merge(documents, layers)
    layered.override(environ)
    return LoadedSettings(
        settings=_validate(layered, registry),
        origins=MappingProxyType({".".join(k): o for k, o in layered.origins.items()}),
        foreign=tuple(layered.foreign),
        files=files,
        env=env,
        again=partial(
            load_settings, _absolute(found), env=env or "", registry=registry, environ=environ
        ),
    )


def _validate(layered: Layered, registry: DocumentDatabaseRegistry) -> Settings:
    settings: Settings | None = None
    found = []
    try:
        settings = Settings.model_validate(layered.tree)
    except ValidationError as error:
        found = find_faults(Settings, error)
    if settings is not None and not layered.problems:
        return prepare(settings, registry, layered.origin)
    check = Check(registry, layered.origin)
    check.note(layered.problems)
    for fault in found:
        check.add(fault.path, fault.problem, _cure(fault, layered.tree))
    check.tree(layered.tree)
    check.raise_problems()
    raise AssertionError("invalid settings without a problem")  # pragma: no cover - see above


def _cure(fault: Fault, tree: Mapping[str, Any]) -> str:
    """A connection without a backend is often a slip in the name of one that has one."""
    match fault.path:
        case ("database", "documents", name, "backend") if fault.problem == "is missing":
            documents = tree["database"]["documents"]
            whole = [other for other, table in documents.items() if "backend" in table]
            if whole:
                return f"Set it, or mend the connection's name. {did_you_mean(name, whole)}"
    return fault.cure


def _environment(env: str | None, environ: Mapping[str, str]) -> str | None:
    said_by = "env" if env is not None else ENV_VARIABLE
    env = environ.get(ENV_VARIABLE) if env is None else env
    if not env:
        return None
    if _ENV_NAME.fullmatch(env) is None or env in OWN_KEYS:
        problem = f"{env!r} cannot be the name of an environment"
        cure = f"Use letters, digits, '-' and '_', and none of {', '.join(OWN_KEYS)}"
        raise SettingsError(SettingsProblem(said_by, "", "", problem, cure))
    return env


def _absolute(source: Mapping[str, Any] | list[Path]) -> Mapping[str, Any] | list[Path]:
    """The same source, wherever the program has gone in the meantime."""
    return source if isinstance(source, Mapping) else [path.absolute() for path in source]


def _read(
    source: Mapping[str, Any] | list[Path], env: str | None
) -> tuple[list[Document], tuple[Path, ...]]:
    """Every document in order; unreadable ones end it here, as all else would mislead."""
    if isinstance(source, Mapping):
        return [Document("mapping", source)], ()
    files = _with_env_files(source, env)
    read = [read_document(file) for file in files]
    problems = [outcome for outcome in read if isinstance(outcome, SettingsProblem)]
    if problems:
        raise SettingsError(*problems)
    return [outcome for outcome in read if isinstance(outcome, Document)], tuple(files)


def _paths(source: Any, environ: Mapping[str, str]) -> list[Path]:
    if isinstance(source, str | os.PathLike):
        return [Path(source)]
    if source:
        return [Path(path) for path in source]
    named = [path for path in environ.get(SETTINGS_VARIABLE, "").split(os.pathsep) if path]
    if named:
        return [Path(path) for path in named]
    if Path(DEFAULT_FILE).exists():
        return [Path(DEFAULT_FILE)]
    raise SettingsError(
        SettingsProblem(
            file=f"./{DEFAULT_FILE}",
            layer="",
            key="",
            problem=f"does not exist, and {SETTINGS_VARIABLE} is not set",
            cure=f"Set {SETTINGS_VARIABLE}, pass a path, or create ./{DEFAULT_FILE}",
        )
    )


def _with_env_files(paths: list[Path], env: str | None) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        files.append(path)
        beside = path.parent / f"{env}.toml"
        if env is not None and beside not in {*paths, *files} and os.path.lexists(beside):
            files.append(beside)
    return files


def _require_layers(documents: list[Document], layers: tuple[str, ...], *, env_file: bool) -> None:
    """A file without layers, or without the one that was asked for, is never an empty one."""
    env = layers[-1]
    found = {
        name
        for document in documents
        for name, table in document.content.items()
        if name in (DEFAULT_LAYER, env) or is_layer(table)
    }
    outside = [problem for document in documents for problem in misplaced(document, env)]
    if outside:
        raise SettingsError(*outside)
    names = ", ".join(document.name for document in documents)
    if env not in found and env != DEFAULT_LAYER and not env_file:
        problem = f"there is no layer [{env}] for the environment {env!r}"
        raise SettingsError(SettingsProblem(names, env, "", problem, did_you_mean(env, found)))
    if found.isdisjoint(layers):
        cure = f"Put everything into layers, such as [{DEFAULT_LAYER}.database.documents.main]"
        if found:  # a slip in `default`, or an environment that nobody named
            there = ", ".join(f"[{name}]" for name in sorted(found))
            cure = f"Found only {there}: name one with {ENV_VARIABLE}, or write [default.…]"
        raise SettingsError(SettingsProblem(names, "", "", "there is no layer", cure))
