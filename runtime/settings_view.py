"""Settings as people and editors see them: what holds, without secrets, and the TOML's schema."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from .layers import DEFAULT_LAYER, OWN_KEYS
from .redaction import MASK, SECRET_NAME, Redactor, redact_urls
from .secrets_registry import SecretsBackendRegistry
from .settings import Settings

if TYPE_CHECKING:
    from ..providers.registry import DocumentDatabaseRegistry
    from .loading import LoadedSettings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def redacted(loaded: LoadedSettings) -> dict[str, Any]:
    """Everything that holds, defaults included, as nested plain values without any secret.

    A secret is shown as asterisks, a URL without its credentials, a reference as it is, since it
    only says where to look. Of a disabled connection the `provider` table was never validated:
    all of its texts are hidden.
    """
    shown: dict[str, Any] = _show(loaded.settings)
    for name, connection in loaded.settings.database.documents.items():
        if not isinstance(connection.provider, BaseModel):
            shown["database"]["documents"][name]["provider"] = _hide(connection.provider)
    return shown


def settings_schema(registry: DocumentDatabaseRegistry) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a settings file, layers included, for editors and CI.

    Nothing is required in it, as a layer may set a single key. Every backend is imported.

    Raises:
        SettingsError: a backend cannot be imported.
    """
    schema = Settings.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for definition in definitions.values():
        definition.pop("required", None)
    for section, own in OWN_KEYS.items():
        if own is not None:
            # What is not ours there belongs to others.
            definitions[f"{section.capitalize()}Settings"]["additionalProperties"] = True
    documents = definitions["DatabaseSettings"]["properties"]["documents"]
    documents["propertyNames"] = {"pattern": "^(?!.*__)[a-z][a-z0-9_]*$"}
    backends = {name: registry.get(name).settings_model for name in registry.names()}
    _choose_provider(definitions, "ConnectionSettings", backends)
    of_secrets = SecretsBackendRegistry.default()
    secrets = {name: of_secrets.get(name).settings_model for name in of_secrets.names()}
    _choose_provider(definitions, "SecretsSettings", secrets)
    definitions["Layer"] = {"properties": schema["properties"]}
    return {
        "$schema": _DIALECT,
        "title": "Moorings settings",
        "type": "object",
        "properties": {DEFAULT_LAYER: {"$ref": "#/$defs/Layer"}},
        "additionalProperties": {"$ref": "#/$defs/Layer"},
        "$defs": definitions,
    }


def _choose_provider(
    definitions: dict[str, Any], holder: str, models: Mapping[str, type[BaseModel]]
) -> None:
    """Let the `provider` table of `holder` follow the model that its `backend` names."""
    branches = []
    for backend, model in models.items():
        prefix = f"{holder}.{backend}"
        schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
        for name, definition in schema.pop("$defs", {}).items():
            definitions[f"{prefix}.{name}"] = definition
        schema.pop("required", None)
        definitions[prefix] = schema
        branches.append(
            {
                "if": {"properties": {"backend": {"const": backend}}, "required": ["backend"]},
                "then": {"properties": {"provider": {"$ref": f"#/$defs/{prefix}"}}},
            }
        )
    properties = definitions[holder]["properties"]
    properties["backend"] |= {"enum": list(models)}
    properties["provider"] = {"type": "object"}
    definitions[holder]["allOf"] = branches


def _show(value: Any, key: str = "") -> Any:
    match value:
        case SecretStr():
            return _show_secret(value.get_secret_value(), key)
        case BaseModel() | Mapping():
            return {str(name): _show(item, str(name)) for name, item in dict(value).items()}
        case list() | tuple() | set() | frozenset():
            return [_show(item, key) for item in value]
        case Enum():
            return value.value
        case bool() | int() | float() | None:
            return value
        case _:
            return MASK if SECRET_NAME.search(key) else redact_urls(str(value))


def _show_secret(value: str, key: str) -> str:
    # Only where a URL is expected: a password may happen to look like one.
    if key.lower().endswith(("url", "uri")) and "://" in value:
        return Redactor([value]).redact(value)
    return MASK


def _hide(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _hide(item) for key, item in value.items()}
        case list() | tuple():
            return [_hide(item) for item in value]
        case bool() | int() | float() | None:
            return value
        case _:
            return MASK
