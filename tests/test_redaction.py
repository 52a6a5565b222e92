"""Redaction: no secret survives in any text, record or structure; a positive control for each."""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from moorings.runtime.redaction import MASK, MIN_LENGTH, Redactor, redact_urls

SECRET = "hunter2 & Co/@"

# Without the mask's own character: a secret of asterisks is found in its own mask.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"))
secrets = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="*:/"),
    min_size=MIN_LENGTH,
)


@pytest.fixture(params=[True, False], ids=["on", "off"])
def redactor(request: pytest.FixtureRequest) -> Redactor:
    """Each test runs with redaction off as well: then the secret has to be there."""
    return Redactor([SECRET], enabled=request.param)


# ── texts ────────────────────────────────────────────────────────────────────────────────────


@given(before=texts, after=texts, secret=secrets)
def test_no_known_secret_survives(before: str, after: str, secret: str) -> None:
    text = before + secret + after
    assert secret not in Redactor([secret]).redact(text)
    assert secret in Redactor([secret], enabled=False).redact(text)


@given(known=st.lists(secrets, min_size=1, max_size=4), filler=texts)
def test_overlapping_and_repeated_secrets_leave_no_rest(known: list[str], filler: str) -> None:
    redacted = Redactor(known).redact("".join(known) + filler + "".join(reversed(known)))
    assert not any(secret in redacted for secret in known)


@given(secret=secrets)
def test_encoded_and_escaped_forms_are_secrets_too(secret: str) -> None:
    redactor = Redactor([secret])
    encoded = [quote(secret), quote(secret, safe=""), quote_plus(secret)]
    for spelling in (*encoded, repr(secret)[1:-1], json.dumps(secret)[1:-1]):
        assert spelling not in redactor.redact(f"<{spelling}>")


@given(text=texts)
def test_texts_without_secrets_and_urls_stay_as_they_are(text: str) -> None:
    if "://" not in text:
        assert Redactor(["a secret that is not in it"]).redact(text) == text


@given(user=secrets, password=secrets, scheme=st.sampled_from(["mongodb", "mongodb+srv", "amqp"]))
def test_the_credentials_of_any_url_go_known_or_not(user: str, password: str, scheme: str) -> None:
    url = f"{scheme}://{quote(user)}:{quote(password, safe='')}@db.example:27017/main"
    assert redact_urls(f"cannot reach {url}!") == (
        f"cannot reach {scheme}://{MASK}@db.example:27017/main!"
    )


@given(password=secrets)
def test_a_mongodb_password_that_nobody_escaped_goes_whole(password: str) -> None:
    """Up to the last "@": its tail would pass for the host."""
    assert redact_urls(f"mongodb://app:{password}@x@db/") == f"mongodb://{MASK}@db/"
    assert redact_urls(f"mongodb://app:{password}/x@db/") == f"mongodb://{MASK}@db/"


def test_a_url_is_not_a_secret_but_its_credentials_are() -> None:
    redactor = Redactor(["mongodb://app:p%40ss-word@db:27017/x?replicaSet=rs0", "mongodb://db/"])
    assert redactor.redact("db:27017 rs0 mongodb://db/") == "db:27017 rs0 mongodb://db/"
    assert redactor.redact("p%40ss-word, p@ss-word") == f"{MASK}, {MASK}"


@pytest.mark.parametrize(
    ("url", "innocent"),
    [
        ("mongodb://db:27017/x?appName=me@home", "db:27017 me@home"),
        ("mongodb://a:1,b:2/", "a:1 b:2"),
        ("mongodb://user@db:27017/", "user db:27017"),
    ],
)
def test_of_a_url_without_a_password_nothing_is_learnt(url: str, innocent: str) -> None:
    assert Redactor([url]).redact(innocent) == innocent


@pytest.mark.parametrize(
    ("url", "piece"),
    [
        ("mongodb://app:first/second@db", "second"),
        ("mongodb://app:first@second@db", "second"),
        ("mongodb://app:first?second@db", "second"),
        ("mongodb://db/?tlsCertificateKeyFilePassword=opensesame", "opensesame"),
        ("mongodb://db/?authMechanismProperties=AWS_SESSION_TOKEN:abcd", "AWS_SESSION_TOKEN:abcd"),
    ],
)
def test_pieces_that_drivers_quote_are_learnt(url: str, piece: str) -> None:
    text = f"invalid host {piece!r}"
    assert Redactor([url]).redact(text) == f"invalid host '{MASK}'"
    assert Redactor([url], enabled=False).redact(text) == text


def test_secret_options_of_a_url_are_masked() -> None:
    url = "mongodb://db/?tls=true&tlsCertificateKeyFilePassword=opensesame&w=1"
    masked = f"mongodb://db/?tls=true&tlsCertificateKeyFilePassword={MASK}&w=1"
    assert redact_urls(url) == masked


def test_every_line_of_a_key_is_a_secret() -> None:
    redactor = Redactor(["-----BEGIN\nabcdefgh\n-----END"])
    assert redactor.redact("| abcdefgh") == f"| {MASK}"


def test_short_secrets_do_not_maul_every_text() -> None:
    """Below four characters a password would be found in innocent words."""
    assert Redactor(["the"]).redact("the other") == "the other"


def test_secrets_are_learnt_later_and_never_shown() -> None:
    redactor = Redactor()
    assert redactor.redact(SECRET) == SECRET
    redactor.learn(SecretStr(SECRET))
    assert redactor.redact(SECRET) == MASK
    assert "hunter" not in repr(redactor)


# ── structures ───────────────────────────────────────────────────────────────────────────────


class Revealing:
    def __repr__(self) -> str:
        return f"Revealing({SECRET})"


class Discreet:
    pass


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        {"a": [SECRET]},
        {SECRET: 1},
        [SECRET, (SECRET,)],
        {"set": {SECRET}, "frozen": frozenset({SECRET})},
        RuntimeError(SECRET),
        Revealing(),
        SECRET.encode(),
        [[[[[[[[[[[[[[[[[[[SECRET]]]]]]]]]]]]]]]]]]],
    ],
)
def test_nested_values_are_redacted(value: Any, redactor: Redactor) -> None:
    assert ("hunter2" in repr(redactor.redact_value(value))) is not redactor.enabled


@pytest.mark.parametrize("value", [1, 1.5, True, None, SecretStr(SECRET), Discreet()])
def test_values_that_show_nothing_stay_the_same_objects(value: Any) -> None:
    assert Redactor([SECRET]).redact_value(value) is value


def test_structures_keep_their_types() -> None:
    value = {"list": [1], "tuple": (1,), "set": {1}, "frozenset": frozenset({1}), "text": "a"}
    assert Redactor([SECRET]).redact_value(value) == value


def test_a_structure_that_contains_itself_ends() -> None:
    value: list[Any] = [SECRET]
    value.append(value)
    assert "hunter2" not in repr(Redactor([SECRET]).redact_value(value))


# ── logging ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def log(redactor: Redactor) -> Any:
    """A logger with a handler, and all that was written through it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(extra)s", defaults={"extra": ""}))
    handler.addFilter(redactor)
    logger = logging.getLogger("tests.redaction")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)
    logger.propagate = True


def fail() -> None:
    raise RuntimeError(f"cannot log in with {SECRET}")


def log_message(logger: logging.Logger) -> None:
    logger.error(f"with {SECRET}")  # noqa: G004 - what others write


def log_arguments(logger: logging.Logger) -> None:
    logger.error("with %s and %r", SECRET, {"a": [SECRET]})


def log_named_arguments(logger: logging.Logger) -> None:
    logger.error("with %(a)s", {"a": SECRET})


def log_extra(logger: logging.Logger) -> None:
    logger.error("with", extra={"extra": {"nested": [SECRET]}})


def log_traceback(logger: logging.Logger) -> None:
    try:
        fail()
    except RuntimeError:
        logger.exception("failed")


def log_chained_traceback(logger: logging.Logger) -> None:
    try:
        try:
            fail()
        except RuntimeError as error:
            raise ValueError("wrapped") from error
    except ValueError as error:
        logger.error("failed", exc_info=error)  # noqa: TRY400 - an error passed as a value


@pytest.mark.parametrize(
    "write",
    [
        log_message,
        log_arguments,
        log_named_arguments,
        log_extra,
        log_traceback,
        log_chained_traceback,
    ],
)
def test_no_log_record_shows_a_secret(log: Any, redactor: Redactor, write: Any) -> None:
    logger, stream = log
    write(logger)
    assert ("hunter2" in stream.getvalue()) is not redactor.enabled
    assert (MASK in stream.getvalue()) is redactor.enabled


def test_a_record_is_otherwise_what_it_was(redactor: Redactor) -> None:
    record = logging.LogRecord("a.b", logging.INFO, __file__, 7, "n is %d", (3,), None)
    assert redactor.filter(record)
    assert record.getMessage() == "n is 3"
    assert (record.name, record.levelno, record.lineno) == ("a.b", logging.INFO, 7)
    assert record.exc_info is None
    assert record.exc_text is None


def test_a_record_with_wrong_arguments_is_redacted_all_the_same() -> None:
    """logging itself reports the mistake, with message and arguments."""
    record = logging.LogRecord("a", logging.INFO, "", 1, f"{SECRET} %d", (SECRET,), None)
    Redactor([SECRET]).filter(record)
    assert "hunter2" not in repr((record.msg, record.args))


def test_a_stack_is_redacted() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 1, "", (), None, sinfo=f"line {SECRET}")
    Redactor([SECRET]).filter(record)
    assert record.stack_info == f"line {MASK}"


def test_a_traceback_that_another_handler_has_rendered_is_redacted() -> None:
    try:
        fail()
    except RuntimeError:
        record = logging.LogRecord("a", logging.INFO, "", 1, "", (), sys.exc_info())
        record.exc_text = traceback.format_exc()
    Redactor([SECRET]).filter(record)
    assert record.exc_info is None
    assert record.exc_text is not None
    assert "hunter2" not in record.exc_text


# ── structlog ────────────────────────────────────────────────────────────────────────────────


def render(redactor: Redactor, event: str, **fields: Any) -> str:
    stream = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[redactor, structlog.processors.JSONRenderer(default=repr)],
    )
    logger.error(event, **fields)
    return stream.getvalue()


def test_no_structlog_event_shows_a_secret(redactor: Redactor) -> None:
    shown = render(redactor, "with %s" % SECRET, a={"b": [SECRET]}, error=ValueError(SECRET))  # noqa: UP031
    assert ("hunter2" in shown) is not redactor.enabled


@pytest.mark.parametrize("form", ["true", "error", "tuple"])
def test_no_structlog_traceback_shows_a_secret(form: str, redactor: Redactor) -> None:
    try:
        fail()
    except RuntimeError as error:
        forms = {"true": True, "error": error, "tuple": sys.exc_info()}
        shown = render(redactor, "failed", exc_info=forms[form])
    if redactor.enabled:
        assert "hunter2" not in shown
        assert "RuntimeError: cannot log in with" in shown


@pytest.mark.parametrize("exc_info", [False, None, True, (None, None, None)])
def test_without_an_exception_there_is_no_traceback(exc_info: Any) -> None:
    assert Redactor()(None, "error", {"event": "e", "exc_info": exc_info}) == {"event": "e"}
