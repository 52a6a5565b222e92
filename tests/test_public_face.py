"""What DESIGN promises to be importable is, and importing it costs no driver."""

from __future__ import annotations

import subprocess
import sys

import pytest

import moorings
import moorings.supervisors

FROM_MOORINGS = [
    "BaseServiceProtocol",
    "Changes",
    "Connection",
    "ConnectionManager",
    "ConnectionNotReady",
    "ConnectionStatus",
    "DocumentDatabaseRegistry",
    "DocumentsDatabaseBase",
    "DocumentsDatabaseFactory",
    "DocumentsDatabaseProtocol",
    "Event",
    "FailureReason",
    "HostMismatch",
    "IllegalTransition",
    "LocalDBProvider",
    "MongoProvider",
    "MooringsError",
    "PyMongoProvider",
    "RestartIntensityExceeded",
    "Secret",
    "SecretReference",
    "SecretUnavailable",
    "SecretsBackend",
    "Settings",
    "SettingsError",
    "SettingsProblem",
    "Signal",
    "State",
    "SupervisorError",
    "Transition",
    "UnknownBackend",
    "UnknownConnection",
    "open_connections",
    "run",
]
FROM_SUPERVISORS = [
    "AutoShutdown",
    "Backoff",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildEnded",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStarted",
    "ChildState",
    "ChildUnstopped",
    "Escalated",
    "Restart",
    "RestartIntensityExceeded",
    "ShuttingDown",
    "Strategy",
    "Supervisor",
    "SupervisorError",
    "SupervisorEvent",
    "TaskStatus",
    "open_supervisor",
]


@pytest.mark.parametrize("name", FROM_MOORINGS)
def test_moorings_has(name: str) -> None:
    assert getattr(moorings, name) is not None
    assert name in moorings.__all__
    assert name in dir(moorings)


@pytest.mark.parametrize("name", FROM_SUPERVISORS)
def test_supervisors_has(name: str) -> None:
    assert getattr(moorings.supervisors, name) is not None
    assert name in moorings.supervisors.__all__


def test_nothing_else_is_promised() -> None:
    """A name that is public by accident would have to be kept."""
    assert {*moorings.__all__} == {*FROM_MOORINGS, "supervisors"}
    assert {*moorings.supervisors.__all__} == {*FROM_SUPERVISORS}


def test_every_name_that_is_listed_loads() -> None:
    for name in moorings.__all__:
        assert getattr(moorings, name) is not None


def test_supervisors_is_reached_by_attribute() -> None:
    assert _fresh("import moorings; print(moorings.supervisors.Restart.PERMANENT)") == "permanent"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'open_conections'"):
        _ = moorings.open_conections


def test_importing_loads_nothing_that_is_not_used() -> None:
    heavy = "trio motor pymongo mongomock_ng hypercorn typer rich pydantic prometheus_client"
    code = f"import moorings, sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert _fresh(code) == "[]"


def test_errors_need_no_event_loop_and_no_driver() -> None:
    code = (
        "from moorings import ConnectionNotReady; import sys; "
        "print([m for m in ('trio', 'pydantic', 'motor') if m in sys.modules])"
    )
    assert _fresh(code) == "[]"


def test_supervisors_know_no_databases() -> None:
    code = (
        "import moorings.supervisors, sys; "
        "print(sorted(m for m in sys.modules if m.startswith(('moorings.prov', 'moorings.run'))))"
    )
    assert _fresh(code) == "[]"


def test_opening_connections_imports_no_driver() -> None:
    code = (
        "from moorings import open_connections; import sys; "
        "print([m for m in ('motor', 'pymongo', 'bson', 'hypercorn', 'typer') "
        "if m in sys.modules])"
    )
    assert _fresh(code) == "[]"


@pytest.mark.parametrize(
    "error",
    [
        "SettingsError",
        "UnknownConnection",
        "ConnectionNotReady",
        "HostMismatch",
        "IllegalTransition",
        "RestartIntensityExceeded",
        "SupervisorError",
    ],
)
def test_every_error_is_a_moorings_error(error: str) -> None:
    assert issubclass(getattr(moorings, error), moorings.MooringsError)


@pytest.mark.parametrize(
    "error",
    [
        "ChildNotFound",
        "ChildAlreadyStarted",
        "ChildAlreadyPresent",
        "ChildRunning",
        "ChildStartFailed",
    ],
)
def test_every_refusal_is_a_supervisor_error(error: str) -> None:
    assert issubclass(getattr(moorings.supervisors, error), moorings.supervisors.SupervisorError)


def _fresh(code: str) -> str:
    """The output of a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
