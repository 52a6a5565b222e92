"""What a MongoDB driver's error means, and how to show it without credentials.

Pure functions over exceptions. PyMongo's classes say little: most failures to start arrive as a
`ServerSelectionTimeoutError` whose causes were stripped and whose text quotes one error per
server. So the order is: error code, class, cause, and only then text.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    EncryptionError,
    ExecutionTimeout,
    InvalidName,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from ..errors import FailureReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REDACTED: Final = "**********"

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_CODES: Final = {
    11: FailureReason.AUTH,  # UserNotFound
    13: FailureReason.AUTH,  # Unauthorized
    18: FailureReason.AUTH,  # AuthenticationFailed
    31: FailureReason.AUTH,  # RoleNotFound
    334: FailureReason.AUTH,  # MechanismUnavailable
    391: FailureReason.AUTH,  # ReauthenticationRequired
    8000: FailureReason.AUTH,  # AtlasError: what Atlas answers to a wrong password
    6: FailureReason.NETWORK,  # HostUnreachable, seen by mongos
    7: FailureReason.DNS,  # HostNotFound, seen by mongos
    9001: FailureReason.NETWORK,  # SocketException
    24: FailureReason.TIMEOUT,  # LockTimeout
    50: FailureReason.TIMEOUT,  # MaxTimeMSExpired
    64: FailureReason.TIMEOUT,  # WriteConcernTimeout
    89: FailureReason.TIMEOUT,  # NetworkTimeout
    202: FailureReason.TIMEOUT,  # NetworkInterfaceExceededTimeLimit
    262: FailureReason.TIMEOUT,  # ExceededTimeLimit
    91: FailureReason.TOPOLOGY,  # ShutdownInProgress
    94: FailureReason.TOPOLOGY,  # NotYetInitialized
    133: FailureReason.TOPOLOGY,  # FailedToSatisfyReadPreference
    134: FailureReason.TOPOLOGY,  # ReadConcernMajorityNotAvailableYet
    189: FailureReason.TOPOLOGY,  # PrimarySteppedDown
    10058: FailureReason.TOPOLOGY,  # LegacyNotPrimary
    10107: FailureReason.TOPOLOGY,  # NotWritablePrimary
    11600: FailureReason.TOPOLOGY,  # InterruptedAtShutdown
    11602: FailureReason.TOPOLOGY,  # InterruptedDueToReplStateChange
    13435: FailureReason.TOPOLOGY,  # NotPrimaryNoSecondaryOk
    13436: FailureReason.TOPOLOGY,  # NotPrimaryOrSecondary
    462: FailureReason.OVERLOAD,  # IngressRequestRateLimitExceeded
}

_OVERLOADED: Final = "SystemOverloadedError"
"""The label by which a server says that it is shedding load."""

# In this order: a TLS failure may mention a closed connection, and a name that does not resolve
# may have timed out. Numbers, because asyncio says no more of an error than "Connect call failed".
_TEXTS: Final = (
    (
        FailureReason.AUTH,
        re.compile(r"auth(entication)? failed|requires authentication|bad auth", re.IGNORECASE),
    ),
    (
        FailureReason.TLS,
        re.compile(
            r"CERTIFICATE_VERIFY_FAILED|SSL handshake failed|\[SSL|WRONG_VERSION_NUMBER"
            r"|certificate|TLSV1_ALERT|UNEXPECTED_EOF_WHILE_READING",
            re.IGNORECASE,
        ),
    ),
    (
        FailureReason.DNS,
        re.compile(
            r"Name or service not known|name resolution|No address associated|nodename nor servname"
            r"|getaddrinfo|DNS |nameservers failed|_mongodb\._tcp",
            re.IGNORECASE,
        ),
    ),
    (
        FailureReason.REFUSED,
        re.compile(
            rf"Connection refused|actively refused|\[Errno {errno.ECONNREFUSED}\]", re.IGNORECASE
        ),
    ),
    (
        FailureReason.TIMEOUT,
        re.compile(rf"timed out|timeout expired|\[Errno {errno.ETIMEDOUT}\]", re.IGNORECASE),
    ),
    (
        FailureReason.NETWORK,
        re.compile(
            r"connection (is already )?closed|reset by peer|Broken pipe|unreachable"
            r"|No route to host|connection pool paused",
            re.IGNORECASE,
        ),
    ),
)

# Where servers disagree, the reason that most of them give; among equals the first of these.
_PRECEDENCE: Final = (
    FailureReason.REFUSED,
    FailureReason.TIMEOUT,
    FailureReason.NETWORK,
    FailureReason.DNS,
    FailureReason.TLS,
)

_SERVER_ERROR: Final = re.compile(r"error=(\w+\(.*?\))>(?=[,\]])", re.DOTALL)
_KNOWN_SERVER: Final = re.compile(r"server_type: (?!Unknown)\w+")
_SELECTION_TAIL: Final = re.compile(r", Timeout: [-\d.e]+s, Topology Description: .*", re.DOTALL)
_CONFIGURED: Final = re.compile(r" \(configured timeouts: [^)]*\)")
_FULL_ERROR: Final = re.compile(r", full error: \{.*", re.DOTALL)
_COMMAND: Final = re.compile(r"(execute command) \{ (\w+):.*", re.DOTALL)
_HUNG_UP: Final = re.compile(r"connection (is already )?closed$")
_URL_CREDENTIALS: Final = re.compile(r"(mongodb(?:\+srv)?://)[^\s'\"]*@")


def classify(error: BaseException) -> FailureReason | None:
    """The reason that `error` stands for, or None when the database has no part in it.

    Looks through causes, contexts and exception groups; a group is an outage only when each of its
    errors is, so that a bug is never hidden by an outage beside it.
    """
    return _classify(error, frozenset())


def describe(error: BaseException, secrets: Iterable[str] = (), *, tls: bool = False) -> str:
    """One line about `error`, without `secrets` and without the credentials of any URL.

    What PyMongo appends (the topology, the server's whole reply) and what the server quotes of a
    command is left out: it is long, and may hold data.

    Args:
        error: what was raised.
        secrets: what must not be shown.
        tls: whether the client speaks TLS, for a guess why a server hung up.
    """
    text = str(error)
    for appended in (_SELECTION_TAIL, _FULL_ERROR, _CONFIGURED):
        text = appended.sub("", text)
    text = " ".join(_COMMAND.sub(r"\1 \2", text).split())
    if isinstance(error, ConnectionFailure) and _HUNG_UP.search(text):
        # All that a server says which expects TLS, or another certificate than it is shown.
        hint = "it may demand another certificate of the client" if tls else "it may expect TLS"
        text += f" ({hint})"
    return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__, secrets)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets`, as they are and as a URL spells them, nor URLs' credentials."""
    text = _URL_CREDENTIALS.sub(rf"\1{REDACTED}@", text)
    for form in sorted(_spellings(secrets), key=len, reverse=True):
        # A short one only as a word: else the password "a" would blacken every text.
        pattern = re.escape(form) if len(form) > 3 else rf"(?<!\w){re.escape(form)}(?!\w)"  # noqa: PLR2004
        text = re.sub(pattern, REDACTED, text)
    return text


def _spellings(secrets: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for secret in filter(None, secrets):
        # `repr` and lower case: errors quote, and PyMongo lowers what it takes for a host.
        plain = (secret, secret.lower(), repr(secret)[1:-1])
        found.update(plain, (quote(s, safe="") for s in plain[:2]), map(quote_plus, plain[:2]))
    return found


def _classify(error: BaseException, seen: frozenset[int]) -> FailureReason | None:
    if id(error) in seen:
        return None
    seen |= {id(error)}
    if isinstance(error, BaseExceptionGroup):
        return _classify_group(error, seen)
    if isinstance(error, PyMongoError) and (reason := _of_driver(error)):
        return reason
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None if behind is None else _classify(behind, seen)


def _classify_group(
    group: BaseExceptionGroup[BaseException], seen: frozenset[int]
) -> FailureReason | None:
    reasons = [_classify(error, seen) for error in group.exceptions]
    outages = [reason for reason in reasons if reason is not None]
    if len(outages) < len(reasons):
        return None
    # One that needs a human first: retrying cannot mend it, whatever else is wrong.
    return next((reason for reason in outages if reason.needs_human), outages[0])


def _of_driver(error: PyMongoError) -> FailureReason | None:
    # The driver itself puts the label on whatever fails while it opens a connection, a refused or
    # a silent one, too: there it says no more than that it may help to wait.
    if error.has_error_label(_OVERLOADED) and not isinstance(error, ConnectionFailure):
        return FailureReason.OVERLOAD
    # The first that fits: subclasses stand before their bases.
    return next((reason(error) for kind, reason in _CLASSES if isinstance(error, kind)), None)


def _of_configuration(error: PyMongoError) -> FailureReason:
    """An SRV record that cannot be looked up arrives as a configuration error. It is transient."""
    cause = error.__cause__ or error.__context__
    if (cause is not None and type(cause).__module__.startswith("dns.")) or "DNS" in str(error):
        return FailureReason.DNS
    return FailureReason.CONFIG


def _of_selection(error: ServerSelectionTimeoutError) -> FailureReason:
    """No server could be selected: ask what each server's own error says."""
    text = str(error)
    own = [r for r in map(_of_server_error, _server_errors(error, text)) if r is not None]
    if FailureReason.AUTH in own:
        return FailureReason.AUTH
    if _KNOWN_SERVER.search(text):
        # Somebody answers, only nobody who may serve: an election, or a set under another name.
        return FailureReason.TOPOLOGY
    if own:
        return _most_common(own)
    if text.startswith(("No replica set members", "No primary", "No mongos", "No replica")):
        return FailureReason.TOPOLOGY
    # "No servers found yet": not one has answered, nor refused to.
    return _of_text(_SELECTION_TAIL.sub("", text)) or FailureReason.TIMEOUT


def _server_errors(error: BaseException, text: str) -> Iterator[BaseException | str]:
    """Each server's error: those the provider attached as causes, else those the text quotes."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        yield from cause.exceptions
    elif cause is not None:
        yield cause
    else:
        yield from _SERVER_ERROR.findall(text)


def _of_server_error(error: BaseException | str) -> FailureReason | None:
    if isinstance(error, str):
        return _of_text(error)
    return _classify(error, frozenset()) or _of_text(str(error))


def _most_common(reasons: list[FailureReason]) -> FailureReason:
    counts = Counter(reasons)
    return max(
        counts,
        key=lambda reason: (
            counts[reason],
            -_PRECEDENCE.index(reason) if reason in _PRECEDENCE else -len(_PRECEDENCE),
        ),
    )


def _of_text(text: str) -> FailureReason | None:
    return next((reason for reason, pattern in _TEXTS if pattern.search(text)), None)


_CLASSES: Final[tuple[tuple[type[PyMongoError], Callable[[Any], FailureReason | None]], ...]] = (
    (WaitQueueTimeoutError, lambda _: FailureReason.OVERLOAD),
    (ServerSelectionTimeoutError, _of_selection),
    (NetworkTimeout, lambda _: FailureReason.TIMEOUT),
    (NotPrimaryError, lambda _: FailureReason.TOPOLOGY),
    (ConnectionFailure, lambda error: _of_text(str(error)) or FailureReason.NETWORK),
    (ExecutionTimeout, lambda _: FailureReason.TIMEOUT),
    (OperationFailure, lambda error: _CODES.get(error.code)),
    # What arrived is no reply of a MongoDB server to what we asked.
    (ProtocolError, lambda _: FailureReason.NETWORK),
    (ConfigurationError, _of_configuration),
    (InvalidName, lambda _: FailureReason.CONFIG),
    (EncryptionError, lambda error: _classify(error.cause, frozenset())),
)
