"""Where references lead: the secrets backends, and a provider's settings with them resolved.

Providers never see a reference. The connection's actor calls `resolve_settings` on every episode,
so that a mended or rotated secret heals the connection without a restart.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio
from pydantic import BaseModel, Field, SecretStr, ValidationError

from ..errors import SecretUnavailable, SettingsError, SettingsProblem
from ..providers.references import references
from .settings import FrozenModel
from .validation import find_faults, hider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .settings import SecretsSettings

    Observer = Callable[[str, str], None]

ModelT = TypeVar("ModelT", bound=BaseModel)

# A secret is small. Whoever points `base_path` at a disk image gets an error, not a full memory.
MAX_BYTES = 64 * 1024


class EnvSecretsSettings(FrozenModel):
    """`backend = "env"` has no settings of its own."""


class FileSecretsSettings(FrozenModel):
    """`backend = "file"`: `base_path` is where Docker and Kubernetes mount secrets by custom."""

    base_path: Path = Field(default=Path("/run/secrets"))


# The settings of each backend, by the key that stands in `security.secrets.backend`.
SECRETS_MODELS: Mapping[str, type[EnvSecretsSettings | FileSecretsSettings]] = {
    "env": EnvSecretsSettings,
    "file": FileSecretsSettings,
}


class SecretsBackend(Protocol):
    """Finds the values that references stand for."""

    @property
    def name(self) -> str:
        """The backend's key in the settings; the label `provider` of the metric."""
        ...

    async def resolve(self, path: str, key: str) -> SecretStr:
        """The present value of `key` at `path`.

        Runs on trio. May be cancelled at any time.

        Raises:
            SecretUnavailable: there is none, or it cannot be used; never shows a value.
        """
        ...


class EnvSecrets:
    """`MOORINGS_SECRET_<PATH>_<KEY>`, upper case, everything but letters and digits as `_`."""

    name = "env"

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    async def resolve(self, path: str, key: str) -> SecretStr:
        """See `SecretsBackend`. A checkpoint, like every other backend's."""
        await trio.lowlevel.checkpoint()
        variable = secret_variable(path, key)
        value = self._environ.get(variable)
        if value is None:
            raise SecretUnavailable(path, key, f"{variable} is not set", "Set that variable")
        if not value:
            raise SecretUnavailable(path, key, f"{variable} is empty", "Give it a value")
        return SecretStr(value)


def secret_variable(path: str, key: str) -> str:
    """The environment variable that the `env` backend reads for a reference."""
    return "MOORINGS_SECRET_" + re.sub("[^A-Z0-9]", "_", f"{path}_{key}".upper())


class FileSecrets:
    """`<base_path>/<path>/<key>`, less one newline at the end: a directory of mounted files."""

    name = "file"

    def __init__(self, base_path: str | os.PathLike[str]) -> None:
        self.base_path = Path(base_path)
        # Of its own: mounts may hang, and then readers must not use up the threads that the
        # program and the drivers share.
        self._limiter = trio.CapacityLimiter(4)

    async def resolve(self, path: str, key: str) -> SecretStr:
        """See `SecretsBackend`. The file is read in a thread, left behind on cancellation."""
        file = self._locate(path, key)
        try:
            # Abandoning is safe: the thread only reads, and nobody else waits for its result.
            raw = await trio.to_thread.run_sync(
                _read, file, abandon_on_cancel=True, limiter=self._limiter
            )
            value = raw.decode()
        except FileNotFoundError:
            problem, cure = "does not exist", "Mount or create it, or mend the reference"
        except UnicodeDecodeError:
            problem, cure = "is not UTF-8", "Store the secret as UTF-8 text"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            cure = f"Make it a file that user id {os.geteuid()} may read"
        else:
            value = value.removesuffix("\n").removesuffix("\r")
            if value and len(raw) <= MAX_BYTES:
                return SecretStr(value)
            problem = f"is larger than {MAX_BYTES} bytes" if value else "is empty"
            cure = "Store the secret, and nothing else, in it"
        # Raised outside of the handlers: a chained UnicodeDecodeError carries the bytes.
        raise SecretUnavailable(path, key, f"{file} {problem}", cure)

    def _locate(self, path: str, key: str) -> Path:
        # Only what the settings say is checked. Links inside of base_path are its owner's affair,
        # and Kubernetes mounts every secret as a chain of them.
        for part in (path, key):
            steps = PurePosixPath(part)
            if steps.is_absolute() or ".." in steps.parts or "\0" in part:
                raise SecretUnavailable(
                    path,
                    key,
                    f"the reference leads out of {self.base_path}",
                    "Write path and key relative to base_path, without '..'",
                )
        return self.base_path / path / key


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def secrets_backend(settings: SecretsSettings) -> SecretsBackend:
    """The backend that prepared settings ask for (see `loading.prepare`)."""
    match settings.provider:
        case FileSecretsSettings(base_path=base_path):
            return FileSecrets(base_path)
        case EnvSecretsSettings():
            return EnvSecrets()
        case other:
            raise TypeError(f"not prepared: {type(other).__name__}")


async def resolve_settings(
    settings: ModelT, secrets: SecretsBackend, *, observe: Observer | None = None
) -> ModelT:
    """`settings` with every reference replaced by its secret, validated once more.

    Runs on trio, may be cancelled at any time, and is a checkpoint if there are references. It
    has no bound of its own: the caller chooses one.

    Args:
        settings: a provider's settings; references are looked for in its own fields.
        secrets: where to find them.
        observe: called with the backend's name and "ok" or "error" after each resolution.

    Returns:
        The very same object when it holds no references.

    Raises:
        SecretUnavailable: a reference leads nowhere.
        SettingsError: the provider's model refuses what was found.
    """
    found = references(settings)
    if not found:
        return settings
    resolved: dict[str, SecretStr] = {}
    for name, reference in found.items():
        result = "error"
        try:
            resolved[name] = await secrets.resolve(reference.path, reference.key)
            result = "ok"
        finally:
            if observe is not None:
                observe(secrets.name, result)
    return _revalidated(settings, resolved, secrets.name)


def _revalidated(settings: ModelT, resolved: dict[str, SecretStr], backend: str) -> ModelT:
    model = type(settings)
    values = {name: getattr(settings, name) for name in settings.model_fields_set} | resolved
    try:
        return model.model_validate(
            {model.model_fields[name].alias or name: value for name, value in values.items()}
        )
    except ValidationError as error:
        found = find_faults(model, error, hider(values))
    # Raised outside of the handler: a chained ValidationError carries the secrets.
    raise SettingsError(
        *(
            SettingsProblem(
                file=f"secrets backend {backend!r}",
                layer="",
                key=".".join(("provider", *fault.path)),
                problem=f"{fault.problem}, now that its references are resolved",
                cure="Store a usable value, or mend the reference",
            )
            for fault in found
        )
    )
