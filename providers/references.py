"""A secret in the settings: plain, or a reference that the runtime resolves on every episode."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class SecretReference(BaseModel):
    """`{ path = "database/mongo", key = "url" }`: where the secrets backend keeps a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, Field(min_length=1)]
    key: Annotated[str, Field(min_length=1)]


# A field of this type may be written as a string or as a reference. A provider only ever sees
# the former: the runtime resolves references, validates again, and then calls `open`.
Secret = SecretStr | SecretReference


def references(settings: BaseModel) -> dict[str, SecretReference]:
    """The fields of `settings` that hold references, by field name (top level only)."""
    found: dict[str, Any] = {
        name: getattr(settings, name) for name in type(settings).model_fields
    }
    return {name: value for name, value in found.items() if isinstance(value, SecretReference)}
