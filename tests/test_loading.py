"""Loading: what wins, where it came from, and every mistake with file, layer, key and cure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

from moorings.errors import SettingsError, SettingsProblem, UnknownBackend
from moorings.providers.local import LocalDBProvider, LocalSettings
from moorings.providers.mongo import MongoProvider
from moorings.providers.references import Secret, SecretReference
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.layers import DEFAULT, Origin
from moorings.runtime.loading import LoadedSettings, load_settings
from moorings.runtime.secrets_local import EnvSecretsSettings, FileSecretsSettings
from moorings.runtime.settings import Settings, StartupMode

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2-and-more"
MAIN = "database.documents.main"


class Tls(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: str


class ServerSettings(BaseModel):
    """Has every kind of field that a provider's model may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Secret = SecretStr("server://h")
    password: Secret | None = None
    database_name: str = "main"
    threads: int = 64
    tls: bool | Tls = False
    options: dict[str, int] = {}

    @field_validator("url")
    @classmethod
    def _server(cls, url: Secret) -> Secret:
        if isinstance(url, SecretStr) and not url.get_secret_value().startswith("server://"):
            raise ValueError(f"{url.get_secret_value()!r} is no URL of a server")
        return url

    @model_validator(mode="after")
    def _known_options(self) -> ServerSettings:
        if "bogus" in self.options:
            raise ValueError("unknown option 'bogus'")
        return self


class ServerProvider(LocalDBProvider):
    settings_model: ClassVar[type[BaseModel]] = ServerSettings


@pytest.fixture
def registry() -> DocumentDatabaseRegistry:
    registry = DocumentDatabaseRegistry()
    registry.register("local", LocalDBProvider)
    registry.register("mongo", MongoProvider)
    registry.register("server", ServerProvider)
    return registry


@pytest.fixture
def load(
    registry: DocumentDatabaseRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., LoadedSettings]:
    """Writes the TOML texts given by file name, and loads `settings.toml` or what is said."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(
        toml: str = "",
        *,
        source: Any = "settings.toml",
        env: str | None = None,
        environ: dict[str, str] | None = None,
        **more: str,
    ) -> LoadedSettings:
        for name, text in {"settings": toml, **more}.items():
            Path(f"{name}.toml").write_text(text, encoding="utf-8")
        return load_settings(source, env=env, registry=registry, environ=environ or {})

    return write_and_load


@pytest.fixture
def problems(load: Callable[..., LoadedSettings]) -> Callable[..., list[SettingsProblem]]:
    """Loads as `load` does, and gives the problems of the error that it has to raise."""

    def load_and_fail(*args: Any, **kwargs: Any) -> list[SettingsProblem]:
        with pytest.raises(SettingsError) as caught:
            load(*args, **kwargs)
        assert SECRET not in str(caught.value)
        return list(caught.value.problems)

    return load_and_fail


Load = Any
Problems = Any

ONE = '[default.database.documents.main]\nbackend = "local"\n'


# ── what is loaded ───────────────────────────────────────────────────────────────────────────


def test_the_example_of_the_design_loads(load: Load) -> None:
    loaded = load(
        """
        [default.database]
        default_document_connection = "default_mongo"
        [default.database.documents.default_mongo]
        enabled = true
        required = true
        backend = "mongo"
          [default.database.documents.default_mongo.provider]
          url = "mongodb://localhost:27017/?replicaSet=rs0"
          database_name = "main_app_db"
          [default.database.documents.default_mongo.retry]
          initial = 0.2
          [default.database.documents.default_mongo.health]
          failures = 2
        [default.security.secrets]
        backend = "file"
        [default.runtime]
        startup = "wait"
        [default.runtime.exporter]
        port = 9999
        [production.database.documents.default_mongo.provider]
        database_name = "prod"
        """,
        env="production",
    )
    settings = loaded.settings
    connection = settings.database.documents["default_mongo"]
    assert type(connection.provider) is MongoProvider.settings_model
    assert connection.provider.database_name == "prod"
    assert connection.retry.initial == 0.2
    assert connection.health.failures == 2
    assert settings.security.secrets.provider == FileSecretsSettings()
    assert settings.runtime.startup is StartupMode.WAIT
    assert settings.runtime.exporter.port == 9999
    assert loaded.env == "production"
    assert loaded.files == (Path("settings.toml"),)


def test_a_reference_is_kept_for_later(load: Load) -> None:
    loaded = load(
        """
        [default.database.documents.main]
        backend = "server"
        provider = { url = { path = "database/mongo", key = "url" } }
        """
    )
    provider = loaded.settings.database.documents["main"].provider
    assert provider.url == SecretReference(path="database/mongo", key="url")


def test_without_an_environment_only_default_counts(load: Load) -> None:
    loaded = load(ONE + '[production.runtime]\nname = "prod"')
    assert loaded.settings.runtime.name == "moorings"
    assert loaded.env is None


@pytest.mark.parametrize(
    ("env", "environ", "name"),
    [
        ("production", {}, "production"),
        (None, {"MOORINGS_ENV": "production"}, "production"),
        ("staging", {"MOORINGS_ENV": "production"}, "staging"),
        (None, {"MOORINGS_ENV": ""}, "base"),
        ("default", {}, "base"),
    ],
)
def test_the_environment_chooses_the_layer(
    load: Load, env: str | None, environ: dict[str, str], name: str
) -> None:
    toml = "\n".join(
        f'[{layer}.runtime]\nname = "{said}"'
        for layer, said in {
            "default": "base", "production": "production", "staging": "staging"
        }.items()
    )  # fmt: skip
    assert load(toml, env=env, environ=environ).settings.runtime.name == name


def test_files_override_each_other_in_order_and_layers_before_files(load: Load) -> None:
    """[production] is over [default] wherever the two stand."""
    loaded = load(
        '[default.runtime]\nname = "a"\nhook_timeout = 1\n[prod.runtime]\nready_timeout = 1',
        override='[default.runtime]\nname = "b"\nready_timeout = 2',
        source=["settings.toml", Path("override.toml")],
        env="prod",
    )
    runtime = loaded.settings.runtime
    assert (runtime.name, runtime.hook_timeout, runtime.ready_timeout) == ("b", 1, 1)
    assert loaded.origin("runtime.name") == Origin("override.toml", "default", 2)
    assert str(loaded.origin("runtime.ready_timeout")) == "settings.toml [prod]"
    assert loaded.origin("runtime.drain_delay") is DEFAULT


def test_the_environments_own_file_is_merged(load: Load) -> None:
    loaded = load(ONE, prod='[prod.runtime]\nname = "mine"', env="prod")
    assert loaded.settings.runtime.name == "mine"
    assert loaded.files == (Path("settings.toml"), Path("prod.toml"))
    assert load(ONE, prod="", env=None).files == (Path("settings.toml"),)


def test_a_file_of_the_environment_that_is_named_is_read_once(load: Load) -> None:
    loaded = load(ONE, prod="[prod]", source=["settings.toml", "prod.toml"], env="prod")
    assert loaded.files == (Path("settings.toml"), Path("prod.toml"))


def test_tables_are_merged_and_all_else_is_replaced(load: Load) -> None:
    loaded = load(
        """
        [default.database.documents.main]
        backend = "server"
        provider = { url = { path = "a", key = "b" }, options = { x = 1, y = 1 }, password = "a" }
        [prod.database.documents.main.provider]
        url = "server://prod"
        options = { y = 2 }
        password = { path = "c", key = "d" }
        """,
        env="prod",
    )
    provider = loaded.settings.database.documents["main"].provider
    assert provider.url.get_secret_value() == "server://prod"
    assert provider.options == {"x": 1, "y": 2}
    assert provider.password == SecretReference(path="c", key="d")
    assert f"{MAIN}.provider.url.path" not in loaded.origins
    assert loaded.origin(f"{MAIN}.provider.url").layer == "prod"
    assert loaded.origin(f"{MAIN}.provider.options.x").layer == "default"
    assert loaded.origin(f"{MAIN}.provider.password.path").layer == "prod"


def test_what_belongs_to_others_is_ignored_and_listed(load: Load) -> None:
    loaded = load(
        ONE
        + """
        [default.database.relational.x]
        [default.security]
        cors = true
        [default.logging]
        [production.runtime]
        [tool.other]
        """
    )
    assert set(loaded.foreign) == {
        "default.database.relational",
        "default.security.cors",
        "default.logging",
        "tool",
    }


def test_a_mapping_of_the_tomls_shape_will_do(load: Load) -> None:
    content = {
        "default": {
            "database": {
                "documents": {"main": {"backend": "local", "provider": LocalSettings()}},
            },
        },
    }
    loaded = load(source=content, environ={"MOORINGS_RUNTIME__NAME": "x"})
    assert loaded.settings.runtime.name == "x"
    assert loaded.files == ()
    assert str(loaded.origin(f"{MAIN}.backend")) == "mapping [default]"


def test_an_empty_default_layer_means_no_connections(load: Load) -> None:
    loaded = load("[default]")
    assert dict(loaded.settings.database.documents) == {}


def test_the_installed_backends_and_the_process_environment_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(ONE)
    monkeypatch.delenv("MOORINGS_ENV", raising=False)
    monkeypatch.setenv("MOORINGS_SETTINGS", str(tmp_path / "mine.toml"))
    monkeypatch.setenv("MOORINGS_RUNTIME__NAME", "from the process")
    loaded = load_settings()
    assert loaded.settings.runtime.name == "from the process"
    assert isinstance(loaded.settings.database.documents["main"].provider, LocalSettings)


# ── which files ──────────────────────────────────────────────────────────────────────────────


def test_without_a_source_the_variable_names_the_files(load: Load) -> None:
    named = os.pathsep.join(["one.toml", "two.toml", ""])
    loaded = load(
        "[default]\nbroken",
        one=ONE,
        two='[default.runtime]\nname = "two"',
        source=None,
        environ={"MOORINGS_SETTINGS": named},
    )
    assert loaded.files == (Path("one.toml"), Path("two.toml"))
    assert loaded.settings.runtime.name == "two"


@pytest.mark.parametrize("source", [None, []])
def test_without_a_source_and_a_variable_it_is_settings_toml(load: Load, source: Any) -> None:
    assert load(ONE, source=source).files == (Path("settings.toml"),)


def test_without_any_settings_both_places_are_named(
    registry: DocumentDatabaseRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file must never mean a database in memory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"\./settings\.toml.*MOORINGS_SETTINGS"):
        load_settings(registry=registry, environ={})


def test_files_that_cannot_be_read_are_all_named(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"[default]\n# caf\xe9\n")
    (tmp_path / "folder").mkdir()
    found = problems(
        ONE,
        broken=f"[default]\nx = \nurl = '{SECRET}'",
        double="[default]\nx = 1\nx = 2",
        tables="[default.runtime]\n[default.runtime]\n",
        source=[
            "absent.toml", "folder", "latin.toml", "broken.toml", "double.toml", "tables.toml",
            "settings.toml/below",
        ],
    )  # fmt: skip
    said = {problem.file: problem.problem for problem in found}
    assert said["absent.toml"] == "does not exist"
    assert said["folder"] == "is a directory"
    assert said["latin.toml"] == "is not UTF-8 (line 2)"
    assert "line 2, column 5" in said["broken.toml"]
    assert "line 3" in said["double.toml"]
    assert "line 2" in said["tables.toml"]
    assert said["settings.toml/below"] == "cannot be read (Not a directory)"
    assert all(problem.cure for problem in found)


def test_what_is_too_much_for_a_parser_is_a_problem_like_any_other(
    load: Load, problems: Problems
) -> None:
    (problem,) = problems("[default]\nx = " + "[" * 5000 + "]" * 5000)
    assert problem.problem == "is nested too deeply"
    (problem,) = problems("[default.runtime.exporter]\nport = " + "9" * 5000)
    assert "cannot be read (" in problem.problem
    problem, unknown = problems("[default.runtime" + ".x" * 3000 + "]\ny = 1")
    assert unknown.key == "runtime.x"
    assert (problem.file, problem.layer) == ("settings.toml", "default")
    assert problem.problem == "is nested too deeply"
    (problem,) = problems(ONE, environ={"MOORINGS_RUNTIME__EXPORTER": "[" * 100_000})
    assert problem.problem == "should be a table"


@pytest.mark.parametrize("source", ["", ".", "/"])
def test_a_folder_is_no_settings_file(problems: Problems, source: str) -> None:
    for env in (None, "prod"):
        (problem,) = problems(ONE, source=source, env=env)
        assert problem.problem == "is a directory"


def test_a_byte_order_mark_is_no_part_of_the_settings(load: Load) -> None:
    """Editors on Windows write one."""
    assert load("\ufeff" + ONE.replace("\n", "\r\n")).settings == load(ONE).settings


# ── layers ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("toml", "env", "cure"),
    [
        ('[database.documents.main]\nbackend = "local"', None, "[default.database.…]"),
        ("[default]\n[security.secrets]\n", None, "[default.security.…]"),
        ("[runtime]\n", None, "[default.runtime.…]"),
        ("[default]\n[runtime]\n", "prod", "[prod.runtime.…]"),
    ],
)
def test_tables_outside_of_any_layer_are_told_where_they_belong(
    problems: Problems, toml: str, env: str | None, cure: str
) -> None:
    (problem,) = problems(toml, env=env)
    assert problem.problem == "stands outside of any layer"
    assert cure in problem.cure


@pytest.mark.parametrize("toml", ["", "[tool.other]\nx = 1", "[production.runtime]"])
def test_a_file_without_a_layer_that_counts_is_not_an_empty_one(
    problems: Problems, toml: str
) -> None:
    (problem,) = problems(toml)
    assert problem.file == "settings.toml"
    assert problem.problem == "there is no layer"
    assert "[default." in problem.cure
    assert ("MOORINGS_ENV" in problem.cure) == ("production" in toml)


@pytest.mark.parametrize(("env", "environ"), [("prud", {}), (None, {"MOORINGS_ENV": "prud"})])
def test_an_environment_without_a_layer_lists_those_that_are_there(
    problems: Problems, env: str | None, environ: dict[str, str]
) -> None:
    (problem,) = problems(ONE + "[prod.runtime]\n[tool.x]", env=env, environ=environ)
    assert (problem.file, problem.layer) == ("settings.toml", "prud")
    assert problem.cure == "Known: default, prod (did you mean 'prod'?)"


@pytest.mark.parametrize("env", ["../prod", "a b", "runtime", "-x"])
def test_an_environments_name_is_checked(problems: Problems, env: str) -> None:
    """It becomes a file's name."""
    (problem,) = problems(ONE, env=env)
    assert problem.file == "env"
    (problem,) = problems(ONE, environ={"MOORINGS_ENV": env})
    assert problem.file == "MOORINGS_ENV"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"default": 3}, ""),
        ({"default": {"database": 3}}, "database"),
        ({"default": {"database": {"documents": 3}}}, "database.documents"),
        ({"default": {"database": {"documents": {"main": 3}}}}, MAIN),
        ({"default": {"runtime": {"exporter": 3}}}, "runtime.exporter"),
        ({"default": {"security": {"secrets": []}}}, "security.secrets"),
        (
            {"default": {"database": {"documents": {"main": {"backend": "local", "provider": 3}}}}},
            f"{MAIN}.provider",
        ),
    ],
)
def test_a_value_where_a_table_belongs(problems: Problems, content: Any, key: str) -> None:
    (problem,) = problems(source=content)
    assert (problem.file, problem.layer, problem.key) == ("mapping", "default", key)
    assert problem.problem == "should be a table"


# ── what is refused ──────────────────────────────────────────────────────────────────────────


def test_every_problem_is_reported_at_once_with_its_own_file_and_layer(
    problems: Problems,
) -> None:
    found = problems(
        """
        [default.database]
        default_document_connection = "man"
        [default.database.documents.main]
        backend = "server"
        requierd = true
        retry = { attempts = 0 }
        provider = { databse_name = "x", threads = "many" }
        [default.database.documents.Bad]
        backend = "local"
        [default.database.documents.other]
        backend = "mungo"
        [default.security.secrets]
        backend = "vautl"
        [prod.runtime]
        startup = "soon"
        """,
        prod=f'[prod.database.documents.main.provider]\nurl = "http://u:{SECRET}@h"',
        env="prod",
        environ={
            "MOORINGS_RUNTIME__EXPORTER__PORT": "99999",
            "MOORINGS_RUNTIME__EXPORTER__PROT": "1",
            "MOORINGS_SECURITY__CORS": "1",
        },
    )
    assert {(p.file, p.layer, p.key) for p in found} == {
        ("settings.toml", "default", "database.default_document_connection"),
        ("settings.toml", "default", f"{MAIN}.requierd"),
        ("settings.toml", "default", f"{MAIN}.retry.attempts"),
        ("settings.toml", "default", f"{MAIN}.provider.databse_name"),
        ("settings.toml", "default", f"{MAIN}.provider.threads"),
        ("settings.toml", "default", "database.documents.Bad"),
        ("settings.toml", "default", "database.documents.other.backend"),
        ("settings.toml", "default", "security.secrets.backend"),
        ("settings.toml", "prod", "runtime.startup"),
        ("prod.toml", "prod", f"{MAIN}.provider.url"),
        ("MOORINGS_RUNTIME__EXPORTER__PORT", "", "runtime.exporter.port"),
        ("MOORINGS_RUNTIME__EXPORTER__PROT", "", "runtime.exporter.prot"),
        ("MOORINGS_SECURITY__CORS", "", "security.cors"),
    }
    said = {p.key: str(p) for p in found}
    assert "did you mean 'required'?" in said[f"{MAIN}.requierd"]
    assert "did you mean 'database_name'?" in said[f"{MAIN}.provider.databse_name"]
    assert "did you mean 'main'?" in said["database.default_document_connection"]
    assert "did you mean 'mongo'?" in said["database.documents.other.backend"]
    assert "greater than or equal to 1" in said[f"{MAIN}.retry.attempts"]
    assert "'background', 'wait' or 'fail_fast'" in said["runtime.startup"]
    assert "did you mean 'vault'?" in said["security.secrets.backend"]
    assert "less than or equal to 65535" in said["runtime.exporter.port"]
    assert "did you mean 'port'?" in said["runtime.exporter.prot"]
    assert "Known: secrets" in said["security.cors"]
    assert "is no URL of a server" in said[f"{MAIN}.provider.url"]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("enabled", '"perhaps"', "should be a valid boolean"),
        ("required", "[]", "should be a valid boolean"),
        ("backend", "3", "should be a valid string"),
        ("backend", '""', "should have at least 1 character"),
        ("retry.initial", "nan", "should be a finite number"),
        ("retry.initial", "true", "should be a number"),
        ("retry", "{ initial = 2, max = 1 }", "max should not be less than initial"),
        ("health.jitter", "1.0", "should be less than 1"),
        ("supervision.intensity", "-1", "should be greater than or equal to 0"),
        ("provider.tls", '"perhaps"', "should be a valid boolean"),
        ("provider.options.x", '"many"', "should be a valid integer"),
        ("provider.options", "{ bogus = 1 }", "unknown option 'bogus'"),
        ("provider.url", "3", "should be a string, or a reference to a secret"),
        ("provider.url", '{ path = "a" }', "is a malformed reference to a secret"),
        ("provider.url", '{ path = "a", key = "" }', "is a malformed reference to a secret"),
        ("provider.password", '{ file = "a" }', "is a malformed reference to a secret"),
        ("provider.tls.ca_fiel", '"x"', "is not known"),
    ],
)
def test_a_bad_value_is_named(problems: Problems, key: str, value: str, problem: str) -> None:
    toml = f"""
        [default.database.documents.main]
        {"" if key == "backend" else 'backend = "server"'}
        {key} = {value}
        """
    found = problems(toml)
    assert {p.file for p in found} == {"settings.toml"}
    assert {p.layer for p in found} == {"default"}
    assert any(p.problem.startswith(problem) for p in found), found
    assert any(f"{MAIN}.{key}".startswith(p.key) for p in found)
    assert all(p.cure for p in found)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mongodb://h/?replicaset=a&serverSelectionTimeout=1", "serverSelectionTimeout"),
        ("mongodb://h/?w=many&connectTimeoutMS=soon", "connectTimeoutMS"),
        ("mongodb://h:99999/", "port"),
        (f"mongodb://u:{SECRET}@h:port/", "port"),
        (f"mongodb://u:{SECRET}/x@h/", ""),
        (f"postgres://u:{SECRET}@h/", ""),
    ],
)
def test_what_is_wrong_with_a_drivers_url_is_said_without_the_url(
    problems: Problems, url: str, said: str
) -> None:
    toml = ONE.replace("local", "mongo") + f'provider = {{ url = "{url}", database_name = "x" }}'
    (problem,) = problems(toml)
    assert problem.key.startswith(f"{MAIN}.provider")
    assert said.lower() in problem.problem.lower()
    assert url not in str(problem)


@pytest.mark.parametrize("secret", ["ab", "is", SECRET, f"{SECRET}\nline"])
def test_no_message_repeats_what_a_provider_is_given(problems: Problems, secret: str) -> None:
    """Not even one that the model's author put there, however short."""
    content = {"database": {"documents": {"main": {"backend": "server"}}}}
    content["database"]["documents"]["main"]["provider"] = {"url": secret}  # type: ignore[assignment]
    (problem,) = problems(source={"default": content})
    assert f"'{secret}'" not in problem.problem
    assert problem.problem.endswith("no URL of a server")


def test_a_url_where_a_name_belongs_is_named_without_its_password(
    load: Load, problems: Problems
) -> None:
    url = f"mongodb://u:{SECRET}@h/"
    for toml in (
        f'[default.database.documents."{url}"]\nbackend = "local"',
        f'[default.database.documents."{url}"]\nbackend = "mongo"',
        f'[default.runtime]\n"{url}" = 1',
    ):
        assert any("mongodb://*" in problem.key for problem in problems(toml))
    assert SECRET not in str(load(f'[default."{url}"]\n[default.database]\n"{url}" = 1').foreign)


def test_a_missing_backend_may_be_a_slip_in_the_name(problems: Problems) -> None:
    variable = "MOORINGS_DATABASE__DOCUMENTS__MIAN__PROVIDER__DATABASE_NAME"
    (problem,) = problems(ONE, environ={variable: "x"})
    assert (problem.file, problem.key) == (variable, "database.documents.mian.backend")
    assert "did you mean 'main'?" in problem.cure
    (problem,) = problems("[default.database.documents.main]\nrequired = true")
    assert (problem.file, problem.layer) == ("settings.toml", "default")
    assert (problem.problem, problem.cure) == ("is missing", "Set it")


def test_nothing_but_unknown_backends_is_an_unknown_backend(load: Load) -> None:
    toml = ONE.replace("local", "locale") + ONE.replace("main", "other").replace("local", "x")
    with pytest.raises(UnknownBackend) as caught:
        load(toml)
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].file == "settings.toml"
    assert "did you mean 'local'?" in caught.value.problems[0].cure
    with pytest.raises(SettingsError) as among_others:
        load(toml + "\n[default.runtime]\nx = 1")
    assert not isinstance(among_others.value, UnknownBackend)


def test_a_disabled_connection_is_left_alone(load: Load, problems: Problems) -> None:
    """Its backend need not be installed; its shape is checked all the same."""
    toml = '[default.database.documents.main]\nenabled = false\nbackend = "elsewhere"\n'
    loaded = load(toml + "provider = { anything = 1 }")
    assert loaded.settings.database.documents["main"].provider == {"anything": 1}
    (problem,) = problems(toml + "requierd = true")
    assert problem.key == f"{MAIN}.requierd"


def test_the_default_connection_has_to_be_enabled(problems: Problems) -> None:
    toml = """
        [default.database]
        default_document_connection = "main"
        [default.database.documents.main]
        backend = "local"
        enabled = false
        [default.database.documents.other]
        backend = "local"
        """
    (problem,) = problems(toml)
    assert problem.problem == "connection 'main' is disabled"
    assert problem.cure == "Enable it, or choose another. Known: other"


def test_secrets_backends_have_settings_of_their_own(load: Load, problems: Problems) -> None:
    toml = '[default.security.secrets]\nbackend = "file"\nprovider = { base_path = "/x" }'
    secrets = load(toml).settings.security.secrets
    assert secrets.provider == FileSecretsSettings(base_path=Path("/x"))
    assert load("[default]").settings.security.secrets.provider == EnvSecretsSettings()
    (problem,) = problems(toml.replace("base_path", "basepath"))
    assert problem.key == "security.secrets.provider.basepath"
    (problem,) = problems(toml.replace('"/x"', "3"))
    assert problem.problem == "should be a path"
    (problem,) = problems(toml.replace('"file"', '"flie"'))
    assert problem.cure == "Known: env, file, vault (did you mean 'file'?)"
    (problem,) = problems(toml.replace('"file"', "3"))
    assert problem.key == "security.secrets.backend"


def test_a_plug_in_that_cannot_be_imported_is_chained(registry: DocumentDatabaseRegistry) -> None:
    from importlib.metadata import EntryPoint

    broken = DocumentDatabaseRegistry([EntryPoint("local", "not_there:X", "g")])
    with pytest.raises(SettingsError, match="cannot be imported") as caught:
        load_settings(
            {"default": {"database": {"documents": {"main": {"backend": "local"}}}}},
            registry=broken,
            environ={},
        )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.problems[0].key == f"{MAIN}.backend"


# ── MOORINGS_… ───────────────────────────────────────────────────────────────────────────────


def test_variables_override_single_keys_and_the_model_decides_on_types(load: Load) -> None:
    prefix = "MOORINGS_DATABASE__DOCUMENTS__MAIN__"
    loaded = load(
        """
        [default.database.documents.main]
        backend = "server"
        provider = { database_name = "file", options = { maxSize = 1 } }
        """,
        environ={
            f"{prefix}PROVIDER__DATABASE_NAME": "123",
            f"{prefix}PROVIDER__THREADS": "8",
            f"{prefix}PROVIDER__OPTIONS__MAXSIZE": "7",
            f"{prefix}PROVIDER__PASSWORD": '{ path = "a", key = "b" }',
            f"{prefix}REQUIRED": "false",
            f"{prefix}RETRY": '{"attempts": 2}',
            f"{prefix}retry__max".lower(): "9.5",
            "MOORINGS_RUNTIME__STARTUP": "wait",
        },
    )
    connection = loaded.settings.database.documents["main"]
    assert connection.provider.database_name == "123"
    assert connection.provider.threads == 8
    assert connection.provider.options == {"maxSize": 7}
    assert connection.provider.password == SecretReference(path="a", key="b")
    assert connection.required is False
    assert (connection.retry.attempts, connection.retry.max) == (2, 9.5)
    assert loaded.settings.runtime.startup is StartupMode.WAIT
    assert loaded.origin("runtime.startup").file == "MOORINGS_RUNTIME__STARTUP"
    assert str(loaded.origin("runtime.startup")) == "MOORINGS_RUNTIME__STARTUP"


@pytest.mark.parametrize("password", ["{not json", "[x", "{}}", "true", "null", "1e3", '"q"'])
def test_a_password_stays_the_text_it_is(load: Load, password: str) -> None:
    variable = "MOORINGS_DATABASE__DOCUMENTS__MAIN__PROVIDER__PASSWORD"
    loaded = load(ONE.replace("local", "server"), environ={variable: password})
    provider = loaded.settings.database.documents["main"].provider
    assert provider.password.get_secret_value() == password


@pytest.mark.parametrize(
    "variable",
    [
        "MOORINGS_RUNTIME_PORT",
        "MOORINGS_RUNTIME_SERVICE_HOST",
        "MOORINGS_DATABASE_PORT_27017_TCP",
        "MOORINGS_OTHER__NAME",
        "MOORINGS_SECRET_A_B",
        "XMOORINGS_RUNTIME__NAME",
    ],
)
def test_variables_of_others_are_not_read(load: Load, variable: str) -> None:
    """Kubernetes injects such names for a service that is called moorings."""
    assert load(ONE, environ={variable: "x"}).settings == load(ONE).settings


@pytest.mark.parametrize(
    ("variable", "cure"),
    [
        ("MOORINGS_DATABASE__RELATIONAL", "Known: default_document_connection, documents"),
        ("MOORINGS_SECURITY__SECRET", "did you mean 'secrets'?"),
        ("MOORINGS_RUNTIME__", "one double underscore"),
        ("MOORINGS_RUNTIME__EXPORTER____PORT", "one double underscore"),
        ("MOORINGS_RUNTIME__NAEM", "did you mean 'name'?"),
        ("MOORINGS_DATABASE__DOCUMENTS__MAIN__REQUIERD", "did you mean 'required'?"),
    ],
)
def test_variables_for_nothing_are_errors(problems: Problems, variable: str, cure: str) -> None:
    (problem,) = problems(ONE, environ={variable: SECRET})
    assert (problem.file, problem.layer, problem.problem) == (variable, "", "is not known")
    assert cure in problem.cure


def test_one_key_is_set_by_one_variable(problems: Problems) -> None:
    environ = {"MOORINGS_RUNTIME__NAME": "a", "moorings_runtime__name": "b"}
    (problem,) = problems(ONE, environ=environ)
    assert problem.file == "moorings_runtime__name"
    assert problem.problem == "is set by MOORINGS_RUNTIME__NAME as well"


def test_a_variable_may_replace_a_value_by_a_table(load: Load) -> None:
    environ = {"MOORINGS_DATABASE__DOCUMENTS__MAIN__PROVIDER__TLS__CA_FILE": "/ca.pem"}
    loaded = load(ONE.replace("local", "server") + "provider = { tls = true }", environ=environ)
    assert loaded.settings.database.documents["main"].provider.tls == Tls(ca_file="/ca.pem")
    assert f"{MAIN}.provider.tls" not in loaded.origins


# ── settings built by hand ───────────────────────────────────────────────────────────────────


def test_settings_are_only_prepared_and_nothing_else_is_read(load: Load) -> None:
    environ = {"MOORINGS_RUNTIME__NAME": "x", "MOORINGS_RUNTIME__NONSENSE": "x"}
    loaded = load("broken", source=Settings(), environ=environ)
    assert loaded.settings.runtime.name == "moorings"
    assert loaded.settings.security.secrets.provider == EnvSecretsSettings()
    assert (loaded.files, dict(loaded.origins), loaded.foreign) == ((), {}, ())
    assert load(source=loaded.settings).settings is loaded.settings
