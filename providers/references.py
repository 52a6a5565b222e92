"""A secret in the settings: plain, or a reference that the runtime resolves on every episode."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args

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
    fields = _fields(type(settings), SecretReference)
    if not fields:
        return {}
    return {
        name: value
        for name in fields
        if isinstance(value := getattr(settings, name), SecretReference)
    }


def secrets(settings: BaseModel) -> tuple[SecretStr, ...]:
    """The plain secrets of `settings` (top level only)."""
    fields = _fields(type(settings), SecretStr)
    if not fields:
        return ()
    return tuple(
        value for name in fields if isinstance(value := getattr(settings, name), SecretStr)
    )


@cache
def _fields(model: type[BaseModel], wanted: type) -> tuple[str, ...]:
    # Asked for on every attempt of every connection, and the same for ever.
    return tuple(
        name for name, field in model.model_fields.items() if _mentions(field.annotation, wanted)
    )


def _mentions(annotation: Any, wanted: type) -> bool:
    return (
        annotation is wanted
        or annotation is Any
        or any(_mentions(part, wanted) for part in get_args(annotation))
    )
