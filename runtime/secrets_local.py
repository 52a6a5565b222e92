"""The secrets backends `env` and `file`: what is on this machine."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Self

import trio
from pydantic import BaseModel, Field, SecretStr

from ..errors import SecretUnavailable
from .secrets import SecretsBackend, refused
from .settings import FrozenModel, Seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..providers.references import SecretReference
    from .secrets import Found

# A secret is small. Whoever points `base_path` at a disk image gets an error, not a full memory.
MAX_BYTES = 64 * 1024


class EnvSecretsSettings(FrozenModel):
    """`backend = "env"` has no settings of its own."""


class FileSecretsSettings(FrozenModel):
    """`backend = "file"`.

    Attributes:
        base_path: where Docker and Kubernetes mount secrets by custom.
        refresh: how often the files in use are read again, in seconds.
    """

    base_path: Path = Field(default=Path("/run/secrets"))
    refresh: Seconds = 1.0


class EnvSecrets(SecretsBackend):
    """`MOORINGS_SECRET_<PATH>_<KEY>`, upper case, everything but letters and digits as `_`."""

    name: ClassVar[str] = "env"
    settings_model: ClassVar[type[BaseModel]] = EnvSecretsSettings

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    @classmethod
    def from_settings(cls, settings: EnvSecretsSettings) -> Self:
        """See `SecretsBackend`."""
        del settings
        return cls()

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


class FileSecrets(SecretsBackend):
    """`<base_path>/<path>/<key>`, less one newline at the end: a directory of mounted files.

    Files are read as a whole each time, by their names: one that was renamed over another, or the
    `..data` link that Kubernetes swaps, is seen as soon as it is there.
    """

    name: ClassVar[str] = "file"
    settings_model: ClassVar[type[BaseModel]] = FileSecretsSettings

    def __init__(self, base_path: str | os.PathLike[str], *, refresh: float = 1.0) -> None:
        self.base_path = Path(base_path)
        self.refresh = refresh
        # Of its own: mounts may hang, and then readers must not use up the threads that the
        # program and the drivers share.
        self._limiter = trio.CapacityLimiter(4)

    @classmethod
    def from_settings(cls, settings: FileSecretsSettings) -> Self:
        """See `SecretsBackend`."""
        return cls(settings.base_path, refresh=settings.refresh)

    async def resolve(self, path: str, key: str) -> SecretStr:
        """See `SecretsBackend`. The file is read in a thread, left behind on cancellation."""
        # Abandoning is safe: the thread only reads, and nobody else waits for its result.
        found = await trio.to_thread.run_sync(
            self._look, path, key, abandon_on_cancel=True, limiter=self._limiter
        )
        if isinstance(found, SecretUnavailable):
            raise found
        return found

    async def resolve_all(self, wanted: Collection[SecretReference]) -> Found:
        """See `SecretsBackend`. One thread reads all of them, left behind on cancellation."""

        def look() -> Found:
            return {reference: self._look(reference.path, reference.key) for reference in wanted}

        return await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._limiter)

    def _look(self, path: str, key: str) -> SecretStr | SecretUnavailable:
        """What is there now, in a thread."""
        file = self._locate(path, key)
        if file is None:
            return refused(path, key, str(self.base_path))
        try:
            raw = _read(file)
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
        # Made outside of the handlers: a chained UnicodeDecodeError carries the bytes.
        return SecretUnavailable(path, key, f"{file} {problem}", cure)

    def _locate(self, path: str, key: str) -> Path | None:
        # Only what the settings say is checked. Links inside of base_path are its owner's affair,
        # and Kubernetes mounts every secret as a chain of them.
        for part in (path, key):
            steps = PurePosixPath(part)
            if steps.is_absolute() or ".." in steps.parts or "\0" in part:
                return None
        return self.base_path / path / key


def _read(file: Path) -> bytes:
    # Not blocking, or a FIFO would hold the thread until somebody writes, and a few of them all.
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        mode = os.fstat(opened).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(opened, "rb", closefd=False) as content:
            return content.read(MAX_BYTES + 1)
    finally:
        os.close(opened)
