"""What a user installs: the wheel, the import package, and what it costs to import."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import moorings.errors
import moorings.runtime.state

pytestmark = pytest.mark.slow  # environments of their own

ROOT = Path(moorings.errors.__file__).resolve().parent
PACKAGES = ("providers", "runtime", "supervisors")


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def in_a_new_process(code: str, *path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": ":".join(map(str, path))},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel, built from a copy of what the build reads: setuptools litters its directory."""
    source = tmp_path / "source"
    source.mkdir()
    for item in (*ROOT.glob("*.py"), *ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "py.typed"):
        shutil.copy(item, source)
    shutil.copy(ROOT / "LICENSE", source)
    for package in (*PACKAGES, "tests"):
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    if not (source / "README.md").exists():
        (source / "README.md").touch()
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, source)
    (built,) = tmp_path.glob("*.whl")
    return built


def test_the_wheel_holds_the_import_package_and_nothing_else(wheel: Path) -> None:
    """No tests, no dashboards' tooling, no CI: what is installed is `moorings`."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {
        path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).glob("*.py")
    }
    expected = {f"moorings/{module}" for module in modules}
    expected |= {f"moorings/{path.name}" for path in ROOT.glob("*.py")} | {"moorings/py.typed"}
    expected |= {f"moorings/runtime/page/{name}" for name in ("page.css", "page.js")}
    assert names == expected


def test_the_package_is_imported_once_under_its_own_name() -> None:
    """A second import under the checkout's name would double every enum and every error."""
    strays = {
        name: module.__file__
        for name, module in list(sys.modules.items())
        if not name.startswith("moorings")
        and (file := getattr(module, "__file__", None)) is not None
        and Path(file).resolve().parent in {ROOT, *(ROOT / package for package in PACKAGES)}
    }
    assert strays == {}
    assert moorings.runtime.state.State.__module__ == "moorings.runtime.state"


def test_the_tests_are_no_package() -> None:
    """With an `__init__.py` pytest would import the root under the checkout's name."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_importing_the_package_imports_no_driver_and_no_server() -> None:
    """What is optional, or slow, is imported when it is used."""
    heavy = "motor pymongo typer rich hypercorn starlette mongomock mongomock_ng pydantic_settings"
    code = f"""
        import sys
        import moorings
        print(*sorted(set({heavy.split()!r}) & sys.modules.keys()))
    """
    assert in_a_new_process(code).split() == []


def test_the_default_registry_imports_no_backend_to_list_them() -> None:
    """`names()` reads metadata: a driver that is not installed hurts nobody who does not ask."""
    code = """
        import sys
        from moorings.providers.registry import DocumentDatabaseRegistry
        print(*DocumentDatabaseRegistry.default().names())
        print(*sorted({"motor", "pymongo", "moorings.providers.local"} & sys.modules.keys()))
    """
    names, imported = in_a_new_process(code).splitlines()
    assert {"local", "mongo"} <= set(names.split())
    assert imported.split() == []


def test_a_third_partys_backend_is_found_after_pip_install_alone(tmp_path: Path) -> None:
    """Nothing of ours knows `jsonfile`: its distribution's entry point is all there is."""
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(ROOT / "tests" / "thirdparty", source)
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target, source)
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f"""
        [default.database.documents.notes]
        backend = "jsonfile"
        provider = {{ file = "{tmp_path}/notes.json" }}
        """
    )
    code = f"""
        from moorings.providers.factory import DocumentsDatabaseFactory
        from moorings.providers.registry import DocumentDatabaseRegistry
        from moorings.runtime.loading import load_settings

        registry = DocumentDatabaseRegistry.default()
        assert "jsonfile" in registry.names()
        loaded = load_settings({str(settings)!r}, registry=registry)
        notes = loaded.settings.database.documents["notes"]
        provider = DocumentsDatabaseFactory(registry).create("notes", notes, host="trio")
        print(type(provider).__name__, provider.name, provider.endpoint(notes.provider))
    """
    said = in_a_new_process(code, target)
    assert said.split() == ["JSONFileProvider", "notes", f"{tmp_path}/notes.json"]
