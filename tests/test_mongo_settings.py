"""The `[….provider]` tables of `mongo` and `pymongo`: what they accept and refuse; no leaks."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from moorings.providers import mongo_settings
from moorings.providers.mongo_settings import (
    MaskedString,
    MongoSettings,
    PyMongoSettings,
)
from moorings.providers.mongo_tls import TlsSettings
from moorings.providers.references import SecretReference, references

REFERENCE = {"path": "database/mongo", "key": "url"}


def table(**keys: Any) -> MongoSettings:
    return MongoSettings(**{"url": "mongodb://h/", "database_name": "app"} | keys)


def refusal(**keys: Any) -> str:
    """What is said of a table that is refused."""
    with pytest.raises(ValidationError) as caught:
        table(**keys)
    return str(caught.value)


def arguments(**keys: Any) -> dict[str, Any]:
    return table(**keys).driver_arguments(appname="moorings/main")[1]


def test_a_url_and_a_database_are_enough() -> None:
    settings = table()
    assert settings.threads == 64
    assert settings.driver_arguments(appname="moorings/main") == (
        "mongodb://h/",
        {"connectTimeoutMS": 3000, "appname": "moorings/main"},
    )


def test_settings_are_frozen_and_unknown_keys_refused() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        table().threads = 1
    assert "Extra inputs" in refusal(databse_name="app")
    assert "Extra inputs" in refusal(tls={"cafile": "x"})


@pytest.mark.parametrize("threads", [0, 1025, "many"])
def test_threads_have_bounds(threads: Any) -> None:
    assert "threads" in refusal(threads=threads)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "a$b", "x" * 64])
def test_impossible_database_names_are_refused(name: str) -> None:
    assert "database_name" in refusal(database_name=name)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:S3CRET@h/",
        "mongodb://",
        "mongodb://u:S3CRET",
        "mongodb://u:a@S3CRET@h/",
        "mongodb://u:a/S3CRET@h/",
        "mongodb://u:1234/S3CRET@h",
        "mongodb://u:12?S3CRET=1@h",
        "mongodb://u:12?a=S3CRET@h",
        "mongodb://u:12?S3CRET@h/db",
        "mongodb://u:a:S3CRET@h/",
        "mongodb://u:S3CRET%zz@h/",
        "mongodb://:S3CRET@h/",
        "mongodb://u:S3CRET@h:99999/",
        "mongodb://u:S3CRET@h:port/",
        "mongodb://u:S3CRET@a,,b/",
        "mongodb://u:S3CRET@h%41/",
        "mongodb://u:S3CRET@[::1/",
        "mongodb://u:S3CRET@h/a b",
        "mongodb://u:S3CRET@h/?w=1;x=2&y=3",
        "mongodb://u:S3CRET@h/?w",
        "mongodb://h/?S3-CRET=1",
        "mongodb://u:S3CRET@h/?w=1=2",
        "mongodb://u:S3CRET@h/?w=1&W=2",
        "mongodb://u:S3CRET@h/?tls=true&ssl=false",
        "mongodb://u:S3CRET@h/?tlsInsecure=true&tlsAllowInvalidCertificates=true",
        "mongodb://u:S3CRET@h/?wtimeoutMS=S3CRET",
        "mongodb://u:S3CRET@h/?replicSet=S3CRET",
        "mongodb://u:S3CRET@h/?authSource=",
        "mongodb://u:S3CRET@h/?minPoolSize=9&maxPoolSize=3",
        "mongodb://u:S3CRET@a,b/?directConnection=true",
        "mongodb+srv://u:S3CRET@a,b/",
        "mongodb+srv://u:S3CRET@h:1/",
    ],
)
def test_a_bad_url_is_refused_without_being_shown(url: str) -> None:
    said = refusal(url=url)
    assert "Value error" in said
    assert "s3cret" not in said.lower()
    with pytest.raises(ValidationError) as caught:
        table(url=SecretStr(url))
    # Validated again after a reference was resolved, the input itself is a SecretStr.
    assert "s3cret" not in str(caught.value.errors()).lower()


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://h",
        "mongodb://h/?replicaSet=rs0",
        "mongodb://u:p%40ss@h:1,[::1]:2/auth?authSource=admin",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock/",
        "mongodb://h/?readPreference=secondary&readPreferenceTags=dc:a&readPreferenceTags=",
        "mongodb+srv://u:p@cluster.example.com/?srvServiceName=mongodb&retryWrites=true",
    ],
)
def test_good_urls_are_accepted_without_looking_them_up(url: str) -> None:
    assert table(url=url).parsed_url.hosts


def test_a_reference_is_accepted_and_its_url_checked_once_it_is_known() -> None:
    settings = table(url=REFERENCE, password={"path": "database/mongo", "key": "password"})
    assert settings.url == SecretReference(**REFERENCE)
    assert set(references(settings)) == {"url", "password"}
    assert settings.replica_set is None
    assert settings.secrets() == frozenset()
    resolved = dict(settings) | {"url": SecretStr("mongodb://h/?nonsense=1"), "password": None}
    with pytest.raises(ValidationError, match="nonsense"):
        MongoSettings.model_validate(resolved)
    resolved["url"] = SecretStr("mongodb://u:secret@h/")
    assert MongoSettings.model_validate(resolved).secrets() == {"mongodb://u:secret@h/", "secret"}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("connect_timeout_ms", 5, "did you mean 'connectTimeoutMS'"),
        ("replicSet", "rs_main", "did you mean 'replicaSet'"),
        ("frobnicate", 1, "no option of the driver"),
        ("maxPoolSize", "many", "'maxPoolSize' has a bad value"),
        ("w", [], "'w' has a bad value"),
        ("readPreference", "sometimes", "'readPreference' has a bad value"),
        ("event_listeners", [], "listens itself"),
        ("connect", True, "decides when to connect"),
        ("password", "x", "key of its own"),
        ("tlsCertificateKeyFilePassword", "x", "key of its own"),
        ("document_class", "dict", "Python object"),
        ("tlsCAFile", 7, "file's path"),
        ("authMechanismProperties", "AWS_SESSION_TOKEN:x", "holds a secret"),
        ("authMechanismProperties", "NONSENSE", "has a bad value"),
    ],
)
def test_bad_options_are_refused_with_a_cure(option: str, value: Any, said: str) -> None:
    text = refusal(options={option: value})
    assert said in text
    if isinstance(value, str) and len(value) > 4:
        assert value not in text


def test_all_bad_options_are_reported_at_once() -> None:
    text = refusal(options={"frobnicate": 1, "maxPoolSize": "many"}, url="mongodb://h/?foo=1")
    assert "frobnicate" in text
    assert "maxPoolSize" in text
    assert "foo" in text


def test_options_are_the_drivers_in_any_case_and_win_over_the_url() -> None:
    given = arguments(
        url="mongodb://h/?maxPoolSize=5&appname=theirs&connectTimeoutMS=1",
        options={"MAXPOOLSIZE": "7", "readPreference": "nearest", "compressors": ["zlib"]},
    )
    # appname and connectTimeoutMS stand in the URL that the driver gets.
    assert given == {"MAXPOOLSIZE": "7", "readPreference": "nearest", "compressors": ["zlib"]}
    assert table(options={"REPLICASET": "rs"}).replica_set == "rs"
    both = table(url="mongodb://h/?replicaSet=a", options={"replicaSet": "b"})
    assert both.replica_set == "b"


def test_credentials_are_taken_off_the_url_and_masked() -> None:
    """A traceback renderer that shows locals, or the driver's reprs, then shows none."""
    settings = table(url="mongodb://url:in%3Aurl@h/db?w=1")
    url, given = settings.driver_arguments(appname="m")
    assert url == "mongodb://h/db?w=1"
    assert (given["username"], str(given["password"])) == ("url", "in:url")
    assert "in:url" not in repr(given)
    own = arguments(url="mongodb://url:in%3Aurl@h/", username="own", password="other")
    assert (own["username"], str(own["password"])) == ("own", "other")
    nameless = arguments(url="mongodb://CN%3Dme@h/?authMechanism=MONGODB-X509&tls=true")
    assert nameless["username"] == "CN=me"
    assert "password" not in nameless
    assert "password is required" in refusal(url="mongodb://only@h/")
    assert pickle.loads(pickle.dumps(MaskedString("x"))) == "x"


def test_a_password_needs_a_user_name() -> None:
    assert "user name" in refusal(password="geheim")
    assert "geheim" not in refusal(password="geheim")


def test_reprs_and_dumps_show_no_secret() -> None:
    settings = table(
        url="mongodb://u:S3CRET@h/",
        password="S3CRET",
        certificate_key_file_password="S3CRET",
        tls={"certificate_key_file": "/run/key.pem"},
    )
    assert "S3CRET" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert "S3CRET" in settings.secrets()


def test_tls_is_a_switch_or_a_table() -> None:
    assert arguments(tls=True)["tls"] is True
    assert arguments(tls=False)["tls"] is False
    given = arguments(
        tls={
            "ca_file": "/ca.pem",
            "certificate_key_file": "/key.pem",
            "crl_file": "/crl.pem",
            "allow_invalid_certificates": True,
            "allow_invalid_hostnames": True,
        },
        certificate_key_file_password="geheim",
    )
    assert given["tls"] is True
    assert given["tlsCAFile"] == "/ca.pem"
    assert given["tlsCertificateKeyFile"] == "/key.pem"
    assert given["tlsCRLFile"] == "/crl.pem"
    assert given["tlsAllowInvalidCertificates"] is True
    assert given["tlsAllowInvalidHostnames"] is True
    assert str(given["tlsCertificateKeyFilePassword"]) == "geheim"
    assert arguments(tls=TlsSettings(enabled=False))["tls"] is False


def test_tls_that_contradicts_itself_is_refused() -> None:
    assert "TLS is not enabled" in refusal(tls={"enabled": False, "ca_file": "/ca.pem"})
    assert "said twice" in refusal(tls=True, options={"tlsCAFile": "/ca.pem"})


def test_a_missing_driver_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        mongo_settings, "find_spec", lambda name: None if name == "motor" else real(name)
    )
    assert "pip install 'moorings[mongo]'" in refusal()


def test_importing_the_provider_imports_no_driver() -> None:
    program = (
        "import sys, moorings, moorings.providers.mongo\n"
        "sys.exit(any(name in sys.modules for name in ('pymongo', 'motor', 'gridfs')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_credentials_by_reference_are_checked_without_their_values() -> None:
    """What the driver requires together is there, though its values are not known yet."""
    reference = {"path": "database/jobs", "key": "password"}
    MongoSettings.model_validate(
        {
            "url": "mongodb+srv://cluster.example.net",
            "database_name": "jobs",
            "username": "worker",
            "password": reference,
        }
    )
    with pytest.raises(ValidationError, match="user name"):
        MongoSettings.model_validate(
            {"url": "mongodb://h", "database_name": "jobs", "password": reference}
        )


# -- the backend `pymongo`


def test_the_pymongo_backend_takes_the_same_table_without_threads() -> None:
    keys = {"url": "mongodb://u:p@h/?replicaSet=rs", "database_name": "app", "tls": True}
    same = PyMongoSettings(**keys).driver_arguments(appname="a")
    assert same == MongoSettings(**keys).driver_arguments(appname="a")
    with pytest.raises(ValidationError, match="waits without threads: remove `threads`"):
        PyMongoSettings(**keys, threads=3)
    with pytest.raises(ValidationError):
        PyMongoSettings.model_validate("mongodb://h/")


def test_a_pymongo_without_its_asynchronous_api_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pymongo.version_tuple", (4, 8, 0))
    with pytest.raises(ValidationError) as caught:
        PyMongoSettings(url="mongodb://h/", database_name="app")
    assert "needs PyMongo 4.13 or later" in str(caught.value)
    assert "pip install 'moorings[pymongo]'" in str(caught.value)
    assert MongoSettings(url="mongodb://h/", database_name="app")


def test_a_missing_pymongo_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_settings, "find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"'pymongo' needs pymongo: pip install 'moorings"):
        PyMongoSettings(url="mongodb://h/", database_name="app")


@pytest.mark.parametrize(
    ("keys", "uses"),
    [
        ({}, False),
        ({"url": "mongodb://h/?tls=true"}, True),
        ({"url": "mongodb://h/?ssl=true"}, True),
        ({"url": "mongodb://h/?tls=false"}, False),
        ({"url": "mongodb+srv://h.example.org/"}, True),
        ({"url": "mongodb+srv://h.example.org/?tls=false"}, False),
        ({"tls": True}, True),
        ({"tls": {}}, True),
        ({"tls": {"enabled": False}}, False),
        ({"options": {"tls": True}}, True),
    ],
)
def test_whether_tls_is_used_is_known_wherever_it_is_said(keys: dict[str, Any], uses: bool) -> None:
    assert table(**keys).uses_tls is uses


def test_the_clients_certificate_is_known_wherever_it_is_said() -> None:
    assert table().certificate_key_file is None
    assert table(tls={"certificate_key_file": "/a.pem"}).certificate_key_file == "/a.pem"
    url = "mongodb://h/?tls=true&tlsCertificateKeyFile=/b.pem"
    assert table(url=url).certificate_key_file == "/b.pem"
