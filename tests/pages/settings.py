"""docs/settings.md: every key of a settings file, made of the models that check it.

What a key means is read from its model's docstring (`Attributes:`): said once, for readers of the
code, of the reference and of this page.
"""

from __future__ import annotations

import inspect
import json
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import PydanticUndefined

from moorings.providers.local import LocalSettings
from moorings.providers.mongo import MongoProvider
from moorings.providers.mongo_tls import TlsSettings
from moorings.runtime.secrets_local import EnvSecretsSettings, FileSecretsSettings
from moorings.runtime.settings import (
    ConnectionSettings,
    DatabaseSettings,
    ExporterSettings,
    HealthSettings,
    RetrySettings,
    RuntimeSettings,
    SecretsSettings,
    SupervisionSettings,
)
from moorings.runtime.vault import VaultSecretsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


class Table(NamedTuple):
    """A table of the file, and the model that checks it."""

    name: str
    model: type[BaseModel]
    note: str = ""


_MONGO = "`mongo` and `pymongo`."
TABLES: Final = (
    Table("[default.database]", DatabaseSettings),
    Table("[default.database.documents.NAME]", ConnectionSettings),
    Table("[….NAME.provider]", MongoProvider.settings_model, _MONGO),
    Table("[….NAME.provider.tls]", TlsSettings, f"{_MONGO} Or `tls = true`."),
    Table("[….NAME.provider]", LocalSettings, "`local`."),
    Table("[….NAME.retry]", RetrySettings),
    Table("[….NAME.health]", HealthSettings),
    Table("[….NAME.supervision]", SupervisionSettings),
    Table("[default.security.secrets]", SecretsSettings),
    Table("[….secrets.provider]", EnvSecretsSettings, "`env`."),
    Table("[….secrets.provider]", FileSecretsSettings, "`file`."),
    Table("[….secrets.provider]", VaultSecretsSettings, "`vault`."),
    Table("[default.runtime]", RuntimeSettings),
    Table("[default.runtime.exporter]", ExporterSettings),
)
_MODELS: Final = frozenset(table.model for table in TABLES)
_TABLES_OF_THEIR_OWN: Final = frozenset({"documents", "exporter", "provider", "secrets"})
"""Fields that are tables with a section of their own; the models of some are not theirs to know."""

HEAD: Final = """\
<!-- Made by `python -m tests.pages` from the models in runtime/settings.py and the backends. -->

# Settings

Files are TOML. `[default.…]` is the ground layer; the one that `MOORINGS_ENV` (or `--env`) names
goes over it, from the same file and from `<env>.toml` beside it; `--settings` may repeat, later
files over earlier ones. Then variables: the key `database.documents.jobs.provider.url` is
`MOORINGS_DATABASE__DOCUMENTS__JOBS__PROVIDER__URL`.

Times are in seconds. Unknown keys, bad values and unknown driver options are errors, all at once,
each with its file, layer and cure; tables that are not ours are left alone. `moorings config` shows
what holds and where each value comes from, `moorings config --schema` is a JSON schema for your
editor.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(table) for table in TABLES)])


def _section(table: Table) -> str:
    title = " ".join(part for part in (f"`{table.name}`", table.note.rstrip(".")) if part)
    rows = list(_rows(table.model))
    if not rows:
        return f"## {title}\n\nNo keys.\n"
    head = "| key | type | default | meaning |\n|---|---|---|---|"
    return "\n".join([f"## {title}", "", head, *rows, ""])


def _rows(model: type[BaseModel]) -> Iterator[str]:
    told = meanings(model)
    for name, field in model.model_fields.items():
        if name in _TABLES_OF_THEIR_OWN or field.annotation in _MODELS:
            continue
        schema = model.model_json_schema(mode="validation")
        kind = _kind(schema["properties"][name], schema.get("$defs", {}))
        cells = (f"`{name}`", kind, _default(field), told[name])
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """What the `Attributes:` of a model's docstring say, by field; of its bases', too."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        text = inspect.cleandoc(one.__dict__.get("__doc__") or "")
        _, _, attributes = text.partition("Attributes:\n")
        entries = re.split(r"\n {4}(?=\w+: )", "\n" + attributes)[1:]
        for entry in entries:
            name, _, said = entry.partition(": ")
            found[name] = " ".join(said.split()).replace("None ", "not set ")
    return found


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    match default:
        case _ if default is PydanticUndefined:
            return "required"
        case None:
            return "not set"
        case Enum():
            return f"`{json.dumps(default.value)}`"
        case Path():
            return f'`"{default}"`'
        case bool() | int() | float() | str():
            return f"`{json.dumps(default)}`"
        case _:
            return "empty"


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if (reference := schema.get("$ref")) is not None:
        name = reference.rpartition("/")[2]
        if name == "SecretReference":
            return "reference"
        return _kind(definitions[name], definitions)
    if "anyOf" in schema:
        kinds = dict.fromkeys(_kind(part, definitions) for part in schema["anyOf"])
        return ", ".join(kind for kind in kinds if kind != "null")
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    names = {"object": "table", "boolean": "true or false", "string": "text", "array": "list"}
    kind = names.get(schema.get("type", "object"), schema.get("type", ""))
    return " ".join(part for part in (kind, _range(schema)) if part)


def _range(schema: Mapping[str, Any]) -> str:
    signs = {
        "exclusiveMinimum": "&gt;",
        "minimum": "≥",
        "exclusiveMaximum": "&lt;",
        "maximum": "≤",
    }
    return ", ".join(f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)
