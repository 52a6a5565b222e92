"""The models: ranges, defaults, immutability."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from moorings.runtime.settings import (
    ConnectionSettings,
    DatabaseSettings,
    ExporterSettings,
    HealthSettings,
    RetrySettings,
    RuntimeSettings,
    SecretsSettings,
    Settings,
    StartupMode,
    SupervisionSettings,
)


class Provider(BaseModel):
    model_config = ConfigDict(frozen=True)

    password: SecretStr


def test_defaults_are_those_of_the_design() -> None:
    retry, health, supervision = RetrySettings(), HealthSettings(), SupervisionSettings()
    assert (retry.initial, retry.max, retry.attempts) == (0.1, 5.0, 5)
    assert (health.interval, health.jitter, health.timeout, health.failures) == (10.0, 0.1, 2.0, 3)
    assert (supervision.backoff_initial, supervision.backoff_max) == (1.0, 30.0)
    assert (supervision.intensity, supervision.period, supervision.shutdown) == (5, 30.0, 5.0)
    runtime = RuntimeSettings()
    assert runtime.startup is StartupMode.BACKGROUND
    assert (runtime.ready_timeout, runtime.hook_timeout, runtime.shutdown_timeout) == (30, 60, 20)
    assert (runtime.drain_delay, runtime.max_concurrent_connects) == (0.0, 10)
    assert runtime.exporter == ExporterSettings(enabled=None, host="127.0.0.1", port=9464)


def test_settings_without_connections_are_valid() -> None:
    settings = Settings()
    assert dict(settings.database.documents) == {}
    assert settings.database.default_document_connection is None
    assert settings.security.secrets.backend == "env"


def test_connections_share_the_instances_of_their_defaults() -> None:
    """A thousand connections do not hold a thousand equal retry tables."""
    one, other = ConnectionSettings(backend="local"), ConnectionSettings(backend="mongo")
    assert one.retry is other.retry
    assert one.health is other.health
    assert one.supervision is other.supervision
    assert one.provider is other.provider


def test_what_is_passed_as_an_instance_is_kept_as_it_is() -> None:
    provider = Provider(password=SecretStr("hunter22"))
    connection = ConnectionSettings(backend="local", provider=provider)
    database = DatabaseSettings(documents={"main": connection})
    assert database.documents["main"] is connection
    assert connection.provider is provider


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        (RetrySettings, "initial", 0),
        (RetrySettings, "initial", -1.0),
        (RetrySettings, "max", math.inf),
        (RetrySettings, "max", math.nan),
        (RetrySettings, "attempts", 0),
        (RetrySettings, "attempts", True),
        (RetrySettings, "attempts", 1.5),
        (HealthSettings, "interval", True),
        (HealthSettings, "jitter", 1.0),
        (HealthSettings, "jitter", -0.1),
        (HealthSettings, "failures", 0),
        (SupervisionSettings, "intensity", -1),
        (SupervisionSettings, "period", 0),
        (SupervisionSettings, "shutdown", 0),
        (ExporterSettings, "port", 65536),
        (ExporterSettings, "port", -1),
        (ExporterSettings, "host", ""),
        (RuntimeSettings, "name", ""),
        (RuntimeSettings, "startup", "eventually"),
        (RuntimeSettings, "drain_delay", -1),
        (RuntimeSettings, "ready_timeout", 0),
        (RuntimeSettings, "max_concurrent_connects", 0),
        (SecretsSettings, "provider", "text"),
    ],
)
def test_values_out_of_range_are_refused(model: type[BaseModel], key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({key: value})
    (problem,) = caught.value.errors()
    assert problem["loc"] == (key,)


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (RetrySettings, {"initial": 2.0, "max": 1.0}),
        (SupervisionSettings, {"backoff_initial": 31.0}),
    ],
)
def test_the_longest_delay_is_not_below_the_first(model: type[BaseModel], value: Any) -> None:
    with pytest.raises(ValidationError, match="should not be less than"):
        model.model_validate(value)


@pytest.mark.parametrize("name", ["", "Main", "1st", "_x", "a__b", "a-b", "a.b", "ä", "a "])
def test_illegal_connection_names_are_refused(name: str) -> None:
    """A name has to survive as a level of an environment variable's name."""
    with pytest.raises(ValidationError, match="lower-case letters"):
        DatabaseSettings.model_validate({"documents": {name: {"backend": "local"}}})


@pytest.mark.parametrize("name", ["a", "main_2", "default_mongo", "a_"])
def test_legal_connection_names_are_kept(name: str) -> None:
    database = DatabaseSettings.model_validate({"documents": {name: {"backend": "local"}}})
    assert list(database.documents) == [name]


def test_nothing_can_be_changed_afterwards() -> None:
    settings = Settings.model_validate({"database": {"documents": {"a": {"backend": "local"}}}})
    with pytest.raises(ValidationError, match="frozen"):
        settings.runtime.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.database.documents["b"] = settings.database.documents["a"]  # type: ignore[index]
    with pytest.raises(TypeError):
        settings.database.documents["a"].provider["url"] = "x"


def test_later_changes_to_a_passed_mapping_have_no_effect() -> None:
    provider = {"url": "a"}
    connection = ConnectionSettings(backend="mongo", provider=provider)
    provider["url"] = "b"
    assert connection.provider == {"url": "a"}


def test_no_repr_and_no_error_shows_what_a_provider_is_given() -> None:
    plain = ConnectionSettings(backend="mongo", provider={"url": "mongodb://u:hunter22@h"})
    settings = Settings(database=DatabaseSettings(documents={"a": plain}))
    assert "hunter22" not in repr(settings)
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings.model_validate({"provider": "hunter22", "backend": 3})
    assert "hunter22" not in str(caught.value)


def test_settings_can_be_dumped_without_a_warning() -> None:
    settings = Settings.model_validate({"database": {"documents": {"a": {"backend": "local"}}}})
    dumped = settings.model_dump()
    assert dumped["database"]["documents"]["a"]["backend"] == "local"
    assert Settings.model_validate(dumped) == settings
