"""What each error of the driver is called, and that no text of one shows a secret.

The texts are those of real servers and drivers; `test_mongo.py` meets them live.
"""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    DuplicateKeyError,
    EncryptionError,
    ExecutionTimeout,
    InvalidName,
    InvalidOperation,
    InvalidURI,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from moorings.errors import FailureReason
from moorings.providers.mongo_errors import REDACTED, classify, describe, redact

TIMEOUTS = "(configured timeouts: socketTimeoutMS: 20000.0ms, connectTimeoutMS: 3000.0ms)"


def selection(message: str, *servers: str) -> ServerSelectionTimeoutError:
    """A selection timeout in PyMongo's words; a server is its type, or an error's repr."""
    shown = ", ".join(
        f"<ServerDescription ('h{i}', 27017) server_type: {text}, rtt: 0.001>"
        if "(" not in text and text != "Unknown"
        else f"<ServerDescription ('h{i}', 27017) server_type: Unknown, rtt: None"
        + (f", error={text}>" if "(" in text else ">")
        for i, text in enumerate(servers)
    )
    return ServerSelectionTimeoutError(
        f"{message}, Timeout: 30.0s, Topology Description: <TopologyDescription "
        f"id: 6b03c1d599727d51c3ba88c5, topology_type: Unknown, servers: [{shown}]>"
    )


def server_error(text: str) -> str:
    return f"AutoReconnect('h:27017: {text} {TIMEOUTS}')"


def labelled(error: PyMongoError) -> PyMongoError:
    """As the driver labels whatever fails while it opens a connection."""
    error._add_error_label("SystemOverloadedError")
    return error


REFUSED = server_error("[Errno 111] Connection refused")
UNKNOWN_NAME = server_error("[Errno -2] Name or service not known")
BAD_CERTIFICATE = server_error(
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch (_ssl.c:1006)"
)
HUNG_UP = server_error("connection closed")
TIMED_OUT = "NetworkTimeout('h:27017: timed out (configured timeouts: connectTimeoutMS: 3000.0ms)')"
BAD_PASSWORD = 'OperationFailure("Authentication failed.")'
NO_PRIMARY = 'No replica set members match selector "Primary()"'


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (selection("h:1: [Errno 111] Connection refused", REFUSED), FailureReason.REFUSED),
        (selection("h:1: Name or service not known", UNKNOWN_NAME), FailureReason.DNS),
        (selection("No servers found yet", "Unknown"), FailureReason.TIMEOUT),
        (selection("h:1: timed out", TIMED_OUT), FailureReason.TIMEOUT),
        (selection("h:1: connection closed", HUNG_UP), FailureReason.NETWORK),
        (selection("SSL handshake failed", BAD_CERTIFICATE), FailureReason.TLS),
        (selection("SSL handshake failed: EOF"), FailureReason.TLS),
        (selection("Authentication failed.", BAD_PASSWORD), FailureReason.AUTH),
        (selection('No replica set members available for replica set name "rs"'),
         FailureReason.TOPOLOGY),
        (selection(NO_PRIMARY, REFUSED, "RSSecondary", "RSSecondary"), FailureReason.TOPOLOGY),
        (selection(NO_PRIMARY, BAD_PASSWORD, "RSSecondary"), FailureReason.AUTH),
        (selection("several", REFUSED, BAD_CERTIFICATE), FailureReason.REFUSED),
        (selection("several", TIMED_OUT, UNKNOWN_NAME, UNKNOWN_NAME), FailureReason.DNS),
        (selection("several", BAD_CERTIFICATE, BAD_CERTIFICATE), FailureReason.TLS),
        (OperationFailure("Authentication failed.", 18), FailureReason.AUTH),
        (OperationFailure("not authorized on app", 13), FailureReason.AUTH),
        (OperationFailure("bad auth", 8000), FailureReason.AUTH),
        (OperationFailure("node is recovering", 13436), FailureReason.TOPOLOGY),
        (OperationFailure("operation exceeded time limit", 262), FailureReason.TIMEOUT),
        (OperationFailure("rejected", 1, {"errorLabels": ["SystemOverloadedError"]}),
         FailureReason.OVERLOAD),
        (labelled(AutoReconnect("h:1: [Errno 111] Connection refused")), FailureReason.REFUSED),
        (labelled(NetworkTimeout("h:1: timed out")), FailureReason.TIMEOUT),
        (ProtocolError("Got response id 2 but expected 1"), FailureReason.NETWORK),
        (ExecutionTimeout("operation exceeded time limit", 50), FailureReason.TIMEOUT),
        (NetworkTimeout("h:1: timed out"), FailureReason.TIMEOUT),
        (NotPrimaryError("not primary"), FailureReason.TOPOLOGY),
        (WaitQueueTimeoutError("Timed out while checking out a connection"),
         FailureReason.OVERLOAD),
        (AutoReconnect("h:1: connection closed"), FailureReason.NETWORK),
        (AutoReconnect("h:1: [Errno 111] Connection refused"), FailureReason.REFUSED),
        # So says asyncio; the words differ, the numbers do not.
        (AutoReconnect("h:1: [Errno 111] Connect call failed ('h', 1)"), FailureReason.REFUSED),
        (AutoReconnect("h:1: [Errno 110] Connect call failed ('h', 1)"), FailureReason.TIMEOUT),
        (ConnectionFailure("something new"), FailureReason.NETWORK),
        (ConfigurationError("The DNS query name does not exist: _mongodb._tcp.h."),
         FailureReason.DNS),
        (ConfigurationError("The DNS operation timed out."), FailureReason.DNS),
        (ConfigurationError("Unknown option frobnicate"), FailureReason.CONFIG),
        (InvalidURI("Empty host"), FailureReason.CONFIG),
        (InvalidName("database names cannot contain the character ' '"), FailureReason.CONFIG),
        (EncryptionError(NetworkTimeout("timed out")), FailureReason.TIMEOUT),
    ],
    ids=lambda value: value.value if isinstance(value, FailureReason) else type(value).__name__,
)  # fmt: skip
def test_every_failure_of_the_world_has_its_reason(
    error: BaseException, reason: FailureReason
) -> None:
    assert classify(error) is reason


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a hook's own"),
        ConnectionRefusedError("of another service"),
        DuplicateKeyError("E11000 duplicate key", 11000),
        OperationFailure("unknown operator: $nonsense", 2),
        OperationFailure("without a code"),
        CursorNotFound("cursor id 1 not found", 43),
        InvalidOperation("Cannot use MongoClient after close"),
        EncryptionError(ValueError("no key")),
        PyMongoError("something else"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_outage_has_none(error: BaseException) -> None:
    assert classify(error) is None


def test_the_errors_that_servers_gave_come_before_the_text() -> None:
    error = selection("No servers found yet", "Unknown")
    error.__cause__ = ExceptionGroup("said", [OperationFailure("Authentication failed.", 18)])
    assert classify(error) is FailureReason.AUTH
    error.__cause__ = AutoReconnect("h:1: [Errno 111] Connection refused")
    assert classify(error) is FailureReason.REFUSED
    error.__cause__ = ExceptionGroup("said", [OSError("SSL handshake failed")])
    assert classify(error) is FailureReason.TLS


def test_an_outage_is_found_behind_the_error_of_a_hook() -> None:
    outage = NetworkTimeout("timed out")
    wrapped = RuntimeError("could not build indexes")
    wrapped.__cause__ = outage
    assert classify(wrapped) is FailureReason.TIMEOUT
    while_handling = RuntimeError("could not build indexes")
    while_handling.__context__ = outage
    assert classify(while_handling) is FailureReason.TIMEOUT
    while_handling.__suppress_context__ = True
    assert classify(while_handling) is None


def test_a_group_is_an_outage_only_when_all_of_it_is() -> None:
    timeout, auth = NetworkTimeout("timed out"), OperationFailure("Authentication failed.", 18)
    assert classify(ExceptionGroup("all", [timeout, timeout])) is FailureReason.TIMEOUT
    assert classify(ExceptionGroup("all", [timeout, auth])) is FailureReason.AUTH
    assert classify(ExceptionGroup("mixed", [timeout, KeyError("a bug")])) is None
    assert classify(ExceptionGroup("all", [ExceptionGroup("in", [auth])])) is FailureReason.AUTH


def test_errors_that_cause_each_other_are_followed_once() -> None:
    first, second = KeyError("first"), KeyError("second")
    first.__context__, second.__context__ = second, first
    assert classify(first) is None


def test_descriptions_are_one_short_line() -> None:
    error = selection("h:1: [Errno 111] Connection refused", REFUSED)
    for seconds in ("30.0", "-0.0012", "9.5e-06"):
        timeout = ServerSelectionTimeoutError(str(error).replace("30.0s", f"{seconds}s"))
        assert describe(timeout) == (
            "ServerSelectionTimeoutError: h:1: [Errno 111] Connection refused"
        )
    closed = AutoReconnect(f"h:27017: connection closed {TIMEOUTS}")
    assert describe(closed) == "AutoReconnect: h:27017: connection closed (it may expect TLS)"
    assert describe(closed, tls=True).endswith("(it may demand another certificate of the client)")
    assert describe(KeyError()) == "KeyError"
    assert describe(RuntimeError("two\n  lines")) == "RuntimeError: two lines"
    refused = OperationFailure("no, full error: {'ok': 0.0, 'errmsg': 'no'}", 13)
    assert describe(refused) == "OperationFailure: no"


@pytest.mark.parametrize("secret", ["hunter2", "P@ss/Wörd:100%", "tail@Host", "quo'te\\d"])
def test_no_spelling_of_a_secret_is_shown(secret: str) -> None:
    spelled = [secret, quote(secret, safe=""), quote_plus(secret), repr(secret), secret.lower()]
    text = describe(RuntimeError(" ".join(spelled)), [secret])
    for form in (secret, quote(secret, safe=""), quote_plus(secret), secret.lower()):
        assert form not in text
    assert REDACTED in text


def test_the_credentials_of_any_url_are_hidden_known_or_not() -> None:
    text = redact("no mongodb://user:pa@ss/word@host:1/db and mongodb+srv://u:p@other/")
    assert text == f"no mongodb://{REDACTED}@host:1/db and mongodb+srv://{REDACTED}@other/"


def test_a_short_secret_is_hidden_as_a_word() -> None:
    assert redact("pw: a, and a cat", ["a"]) == f"pw: {REDACTED}, and {REDACTED} cat"
    assert redact("all is well", ["", "l"]) == "all is well"
