"""A secrets backend whose values a test sets, as a third party would write it.

A fixture module: tests take the fixture `safe`, they do not import from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest
import trio
from pydantic import BaseModel, SecretStr

from moorings.errors import SecretUnavailable
from moorings.runtime.secrets import SecretsBackend
from moorings.runtime.secrets_local import EnvSecrets
from moorings.runtime.secrets_registry import SecretsBackendRegistry

if TYPE_CHECKING:
    from moorings.providers.references import SecretReference

REFERENCE = {"path": "db", "key": "password"}


class SafeSettings(BaseModel):
    refresh: float = 10.0
    pin: SecretStr | None = None


class Safe(SecretsBackend):
    """What `values` say; `error` instead, while there is one; never, while it `hangs`."""

    name: ClassVar[str] = "safe"
    settings_model: ClassVar[type[BaseModel]] = SafeSettings

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self.error: Exception | None = None
        self.hangs = False
        self.looks: list[tuple[float, int]] = []
        self.closed = 0

    @classmethod
    def from_settings(cls, settings: Any) -> Self:
        raise NotImplementedError

    async def resolve(self, path: str, key: str) -> SecretStr:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        if (path, key) not in self.values:
            raise SecretUnavailable(path, key, "it is not in the safe", "Put it there")
        return SecretStr(self.values[path, key])

    async def resolve_all(self, wanted: Any) -> Any:
        references: list[SecretReference] = list(wanted)
        self.looks.append((trio.current_time(), len(references)))
        return await super().resolve_all(references)

    def close(self) -> None:
        self.closed += 1

    # what tests do

    def put(self, value: str, path: str = "db", key: str = "password") -> None:
        self.values[path, key] = value

    @staticmethod
    def settings(refresh: float = 10.0) -> dict[str, Any]:
        """The table `security`."""
        return {"secrets": {"backend": "safe", "provider": {"refresh": refresh}}}


@pytest.fixture
def safe(monkeypatch: pytest.MonkeyPatch) -> Safe:
    """The one that `backend = "safe"` leads to, with `one` at the usual reference."""
    made = Safe()
    made.put("one")

    class Installed(Safe):
        @classmethod
        def from_settings(cls, settings: SafeSettings) -> Any:
            made.refresh = settings.refresh
            return made

    def default() -> SecretsBackendRegistry:
        registry = SecretsBackendRegistry()
        registry.register("safe", Installed)
        registry.register("env", EnvSecrets)
        return registry

    monkeypatch.setattr(SecretsBackendRegistry, "default", staticmethod(default))
    return made
