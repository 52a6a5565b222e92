"""TLS and X.509 on real servers: what works, what each failure is called, and the expiry shown."""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from certificates import EXPIRY, Authority
from mongod import HOST, Mongod, servers, start_server
from prometheus_client import CollectorRegistry
from pymongo_sockets import UNCLOSED_BY_PYMONGO
from stacks import STACKS

from moorings import State, open_connections
from moorings.errors import FailureReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stacks import Stack

    from moorings import ConnectionStatus

pytestmark = [
    pytest.mark.mongod,
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]

SOON = 20.0
PAGE = Path(__file__).parents[1] / "docs" / "tls.md"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
METRIC = "moorings_connection_certificate_expiry_timestamp_seconds"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the servers trust, and whose certificates they show."""
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom nobody has heard of."""
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="session")
def tls_server(authority: Authority) -> Iterator[Mongod]:
    """Demands TLS and a login; a client's certificate it looks at if there is one.

    `CN=known` may read and write.
    """
    with servers() as running:
        server = start_server(
            running,
            "--auth",
            *("--setParameter", "authenticationMechanisms=MONGODB-X509,SCRAM-SHA-256"),
            *_tls(authority, authority.server(HOST)),
            "--tlsAllowConnectionsWithoutCertificates",
        )
        trust: dict[str, Any] = {"tls": True, "tlsCAFile": authority.file}
        with server.client(**trust) as client:  # the localhost exception
            client.admin.command("createUser", "root", pwd="root", roles=["root"])
        with server.client(username="root", password="root", **trust) as client:
            client["$external"].command(
                "createUser",
                "CN=known,OU=Tests,O=Clients",
                roles=[{"role": "readWrite", "db": "app"}],
            )
        yield server


@pytest.fixture(scope="session")
def strict_server(authority: Authority) -> Iterator[Mongod]:
    """Demands TLS, and a certificate of the client's; no login."""
    with servers() as running:
        yield start_server(running, *_tls(authority, authority.server(HOST)))


@pytest.fixture(scope="session")
def misnamed_server(authority: Authority) -> Iterator[Mongod]:
    """Shows a certificate for another name."""
    with servers() as running:
        key = authority.server("elsewhere.example")
        yield start_server(
            running, *_tls(authority, key), "--tlsAllowConnectionsWithoutCertificates"
        )


def _tls(authority: Authority, key_file: str) -> tuple[str, ...]:
    return (
        *("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", key_file),
        *("--tlsCAFile", authority.file),
    )


@dataclass(frozen=True)
class Outcome:
    """How a connection fared: its status, and the expiry that a scrape shows."""

    status: ConnectionStatus
    expiry: float | None


@pytest.fixture(params=STACKS)
def connect(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Connects with these provider settings until it is `ready` or `failed`, on each stack."""
    stack: Stack = request.param

    def connect(url: str, **provider: Any) -> Outcome:
        provider |= {"url": url, "database_name": "app"}
        tables = {"backend": stack.backend, "provider": provider, "retry": {"attempts": 1}}
        settings = {"default": {"database": {"documents": {"main": tables}}}}

        async def main() -> Outcome:
            registry = CollectorRegistry()
            async with open_connections(settings, metrics=registry) as connections:
                status = connections["main"].status
                async for status in connections["main"].watch():
                    if status.state in {State.READY, State.FAILED}:
                        break
                labels = {"runtime": "moorings", "connection": "main"}
                return Outcome(status, registry.get_sample_value(METRIC, labels))

        return stack.run(main)

    return connect


def assert_failed(outcome: Outcome, reason: FailureReason, text: str = "") -> None:
    status = outcome.status
    assert (status.state, status.reason) == (State.FAILED, reason), status
    assert text in (status.error or "")


def test_a_server_that_the_authority_vouches_for_is_trusted(
    connect: Callable[..., Outcome], tls_server: Mongod, authority: Authority
) -> None:
    right = {"username": "root", "password": "root", "tls": {"ca_file": authority.file}}
    outcome = connect(tls_server.url, **right)
    assert outcome.status.state is State.READY, outcome
    assert outcome.expiry is None, "no certificate of its own"


def test_another_authority_and_none_at_all_are_tls(
    connect: Callable[..., Outcome], tls_server: Mongod, stranger: Authority
) -> None:
    failed = connect(tls_server.url, tls={"ca_file": stranger.file})
    assert_failed(failed, FailureReason.TLS, "CERTIFICATE_VERIFY_FAILED")
    assert_failed(connect(tls_server.url, tls=True), FailureReason.TLS)


def test_a_certificate_for_another_name_is_tls(
    connect: Callable[..., Outcome], misnamed_server: Mongod, authority: Authority
) -> None:
    failed = connect(misnamed_server.url, tls={"ca_file": authority.file})
    assert_failed(failed, FailureReason.TLS, "mismatch")
    trusting = {"ca_file": authority.file, "allow_invalid_hostnames": True}
    assert connect(misnamed_server.url, tls=trusting).status.state is State.READY


def test_plain_to_a_tls_server_is_network_and_says_that_it_may_be_tls(
    connect: Callable[..., Outcome], tls_server: Mongod
) -> None:
    assert_failed(connect(tls_server.url), FailureReason.NETWORK, "it may expect TLS")


def test_a_certificate_of_ones_own_is_shown_and_its_expiry_is_a_metric(
    connect: Callable[..., Outcome], strict_server: Mongod, authority: Authority
) -> None:
    tls = {"ca_file": authority.file, "certificate_key_file": authority.client("anybody")}
    outcome = connect(strict_server.url, tls=tls)
    assert outcome.status.state is State.READY, outcome
    assert outcome.expiry == EXPIRY.timestamp()


def test_the_expiry_is_found_where_the_driver_option_names_the_file(
    connect: Callable[..., Outcome], strict_server: Mongod, authority: Authority
) -> None:
    options = {"tlsCAFile": authority.file, "tlsCertificateKeyFile": authority.client("anybody")}
    outcome = connect(strict_server.url + "?tls=true", options=options)
    assert outcome.status.state is State.READY, outcome
    assert outcome.expiry == EXPIRY.timestamp()


@pytest.mark.parametrize("shown", ["nothing", "a stranger's", "an expired one"])
def test_a_server_that_demands_another_certificate_hangs_up_and_we_say_why(
    connect: Callable[..., Outcome],
    strict_server: Mongod,
    authority: Authority,
    stranger: Authority,
    shown: str,
) -> None:
    tls = {"ca_file": authority.file}
    match shown:
        case "a stranger's":
            tls["certificate_key_file"] = stranger.client("anybody")
        case "an expired one":
            tls["certificate_key_file"] = authority.client("late", expires=LONG_AGO)
    # A server that refuses a client's certificate under TLS 1.3 says nothing, and hangs up.
    failed = connect(strict_server.url, tls=tls)
    assert_failed(failed, FailureReason.NETWORK, "it may demand another certificate of the client")


def test_x509_logs_in_whom_the_server_knows_and_nobody_else(
    connect: Callable[..., Outcome], tls_server: Mongod, authority: Authority
) -> None:
    url = tls_server.url + "?authMechanism=MONGODB-X509"
    known, unknown = authority.client("known"), authority.client("unknown")
    tls = {"ca_file": authority.file, "certificate_key_file": known}
    outcome = connect(url, tls=tls)
    assert outcome.status.state is State.READY, outcome
    failed = connect(url, tls=tls | {"certificate_key_file": unknown})
    assert_failed(failed, FailureReason.AUTH)
    assert failed.expiry == EXPIRY.timestamp(), "shown also while it does not help"


def test_the_settings_that_the_docs_show_log_in(
    connect: Callable[..., Outcome], tls_server: Mongod, authority: Authority
) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    provider = tomllib.loads(shown)["default"]["database"]["documents"]["jobs"]["provider"]
    url = provider.pop("url").replace("db.example.net", tls_server.address)
    assert provider["tls"].keys() == {"ca_file", "certificate_key_file"}
    provider["tls"] = {
        "ca_file": authority.file,
        "certificate_key_file": authority.client("known"),
    }
    assert connect(url, **provider | {"database_name": "app"}).status.state is State.READY


def test_a_key_file_that_is_locked_is_opened_by_its_password(
    connect: Callable[..., Outcome], strict_server: Mongod, authority: Authority
) -> None:
    tls = {"ca_file": authority.file, "certificate_key_file": authority.locked("anybody", "sesame")}
    right = connect(strict_server.url, tls=tls, certificate_key_file_password="sesame")
    assert right.status.state is State.READY, right
    assert right.expiry == EXPIRY.timestamp()
    wrong = connect(strict_server.url, tls=tls, certificate_key_file_password="open-sesame")
    assert_failed(wrong, FailureReason.CONFIG)
    assert "sesame" not in str(wrong.status)


@pytest.mark.parametrize("stack", STACKS)
def test_files_that_are_renewed_in_place_are_gone_by(
    stack: Stack, strict_server: Mongod, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """A failed connection takes them at its next attempt, a ready one at its next probe."""
    trusted, shown = tmp_path / "ca.pem", tmp_path / "client.pem"
    _renew(trusted, stranger.file)
    _renew(shown, authority.client("early"))
    tls = {"ca_file": str(trusted), "certificate_key_file": str(shown)}
    provider = {"url": strict_server.url, "database_name": "app", "tls": tls}
    tables = {
        "backend": stack.backend,
        "provider": provider,
        "health": {"interval": 0.1, "probe_interval": 0.1},
        "supervision": {"backoff_initial": 0.1, "backoff_max": 0.1},
    }
    settings = {"default": {"database": {"documents": {"main": tables}}}}
    later = EXPIRY + dt.timedelta(days=90)

    async def main() -> None:
        registry = CollectorRegistry()
        async with open_connections(settings, metrics=registry) as connections:
            connection = connections["main"]
            async for status in connection.watch():
                if status.state is State.FAILED:
                    assert status.reason is FailureReason.TLS, status
                    _renew(trusted, authority.file)
                    break
            await connection.wait_ready(timeout=SOON)
            assert connection.status.generation == 1
            _renew(shown, authority.client("late", expires=later))
            async for status in connection.watch():
                assert status.state is State.READY, status
                if status.generation > 1:
                    break
            labels = {"runtime": "moorings", "connection": "main"}
            assert registry.get_sample_value(METRIC, labels) == later.timestamp()

    stack.run(main)


def _renew(file: Path, content: str) -> None:
    """Put the content of another file there, at once."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(Path(content).read_bytes())
    fresh.replace(file)
