"""What may be configured, as frozen pydantic models: shapes, ranges and defaults, and no I/O.

`loading` reads files and the environment into these. They may as well be built by hand: a
program's own `Settings(...)` is checked by the same rules when connections are opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*")


class FrozenModel(BaseModel):
    """Immutable, strict about unknown keys, and silent about the values it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _no_bool(value: Any) -> Any:
    # Python, and so pydantic, takes True for 1: in settings that is always a slip.
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "Input should be a number, not true or false")
    return value


def _legal_name(value: str) -> str:
    # A double underscore separates the levels of an environment variable's name.
    if NAME_PATTERN.fullmatch(value) is None or "__" in value:
        raise PydanticCustomError(
            "illegal_name",
            "a name is lower-case letters, digits and single underscores, and begins with a letter",
        )
    return value


def _table(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value
    if isinstance(value, Mapping):
        return MappingProxyType(dict(value))
    raise PydanticCustomError("dict_type", "Input should be a table")


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


_NOTHING: Mapping[str, Any] = MappingProxyType({})

Name = Annotated[str, AfterValidator(_legal_name)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_no_bool)]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_no_bool)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), BeforeValidator(_no_bool)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_no_bool)]
CountOrZero = Annotated[int, Field(ge=0), BeforeValidator(_no_bool)]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_no_bool)]
# Left open on purpose: the backend's own model decides. Never shown: it may hold secrets.
BackendTable = Annotated[Any, BeforeValidator(_table), Field(repr=False)]


class RetrySettings(FrozenModel):
    """One connecting episode: decorrelated jitter between attempts.

    Attributes:
        initial: the shortest delay, in seconds.
        max: the longest delay, in seconds.
        attempts: how many, before it gives up.
    """

    initial: Seconds = 0.1
    max: Seconds = 5.0
    attempts: Count = 5

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.initial:
            raise PydanticCustomError("order", "max should not be less than initial")
        return self


class HealthSettings(FrozenModel):
    """Proof of life: pings, and now and then a fresh connection.

    Attributes:
        interval: a ping every so many seconds.
        jitter: give or take this share of `interval`.
        timeout: how long an answer may take, in seconds.
        failures: so many pings in a row without an answer mean that the connection is lost.
        probe_interval: every so many seconds, give or take a tenth, one fresh connection is tried
            beside the pooled ones, which hide a changed password; 0: never.
    """

    interval: Seconds = 10.0
    jitter: Share = 0.1
    timeout: Seconds = 2.0
    failures: Count = 3
    probe_interval: SecondsOrZero = 300.0


class SupervisionSettings(FrozenModel):
    """After giving up, and after a bug: the long backoff, the restart budget, the time to close.

    Attributes:
        backoff_initial: the shortest wait in `failed`, in seconds.
        backoff_max: the longest, in seconds.
        intensity: a bug may restart the connection so many times within `period`. One more
            escalates to the root, where three in a minute are allowed; a connection that is not
            required is parked in `failed` instead.
        period: the window, in seconds.
        shutdown: how long closing the client may take, in seconds.
    """

    backoff_initial: Seconds = 1.0
    backoff_max: Seconds = 30.0
    intensity: CountOrZero = 5
    period: Seconds = 30.0
    shutdown: Seconds = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.backoff_max < self.backoff_initial:
            raise PydanticCustomError(
                "order", "backoff_max should not be less than backoff_initial"
            )
        return self


class ConnectionSettings(FrozenModel):
    """One document-database connection.

    Attributes:
        enabled: False leaves it out altogether, as if it were not there.
        required: whether it gates readiness.
        backend: the registry's key of its provider.
        provider: the backend's own settings: an instance of its `settings_model`, or, in settings
            built by hand, a mapping that `loading.prepare` validates.
        retry: one connecting episode.
        health: proof of life.
        supervision: the long backoff and the restart budget.
    """

    enabled: bool = True
    required: bool = True
    backend: Annotated[str, Field(min_length=1)]
    provider: BackendTable = Field(default_factory=_nothing)
    # Frozen, so one instance serves every connection that keeps the defaults.
    retry: RetrySettings = RetrySettings()
    health: HealthSettings = HealthSettings()
    supervision: SupervisionSettings = SupervisionSettings()


def _no_connections() -> Mapping[str, ConnectionSettings]:
    return _NOTHING


class DatabaseSettings(FrozenModel):
    """The connections by name, and the one that is meant when no name is given.

    Attributes:
        documents: the connections by name.
        default_document_connection: what `get_database()` means.
    """

    documents: Annotated[
        Mapping[Name, ConnectionSettings],
        AfterValidator(MappingProxyType),
        PlainSerializer(dict),
    ] = Field(default_factory=_no_connections)
    default_document_connection: str | None = None


class SecretsSettings(FrozenModel):
    """Where references are resolved.

    Attributes:
        backend: `env`, `file`, `vault`, or the name of an installed one.
        provider: the backend's own settings (see `secrets`).
    """

    backend: str = "env"
    provider: BackendTable = Field(default_factory=_nothing)


class SecuritySettings(FrozenModel):
    """Where secrets come from."""

    secrets: SecretsSettings = Field(default_factory=SecretsSettings)


class StartupMode(StrEnum):
    """When `open_connections` yields."""

    BACKGROUND = "background"
    """At once: connections come up, and come back, in the background."""
    WAIT = "wait"
    """When all required connections are ready, at most `startup_timeout` later."""
    FAIL_FAST = "fail_fast"
    """When all required connections are ready; the first one that gives up is an error."""


class ExporterSettings(FrozenModel):
    """The HTTP listener for metrics and probes.

    Attributes:
        enabled: None leaves it to the host: on under `moorings run`, off in `open_connections`.
        host: the address to bind.
        port: the port to bind; 0 lets the system choose.
        pages: serve `/` and `/connections` when bound off loopback as well.
    """

    enabled: bool | None = None
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 9464
    pages: bool = False


class RuntimeSettings(FrozenModel):
    """The runtime itself. All times are in seconds.

    Attributes:
        name: the label `runtime` of metrics and logs; tells several managers of one process apart.
        startup: when `open_connections` yields.
        startup_timeout: how long `wait` and `fail_fast` wait.
        ready_timeout: how long `get_database` waits unless told otherwise.
        hook_timeout: how long the ready hooks of one connection may take.
        shutdown_timeout: how long all of the connections together may take to close.
        drain_delay: between /readyz saying 503 and the cancellation of the function.
        max_concurrent_connects: attempts at a time, per endpoint.
        exporter: the HTTP listener.
    """

    name: Annotated[str, Field(min_length=1)] = "moorings"
    startup: StartupMode = StartupMode.BACKGROUND
    startup_timeout: Seconds = 30.0
    ready_timeout: Seconds = 30.0
    hook_timeout: Seconds = 60.0
    shutdown_timeout: Seconds = 20.0
    drain_delay: SecondsOrZero = 0.0
    max_concurrent_connects: Count = 10
    exporter: ExporterSettings = ExporterSettings()


class Settings(FrozenModel):
    """Everything that Moorings reads, after layers and overrides."""

    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    security: SecuritySettings = Field(default_factory=SecuritySettings)
    runtime: RuntimeSettings = RuntimeSettings()
