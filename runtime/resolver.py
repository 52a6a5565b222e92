"""References to secrets, resolved on every episode: bounded, counted, and redacted from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..errors import SecretUnavailable
from ..providers.references import references
from ..providers.references import secrets as secrets_in
from .secrets import resolve_settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .redaction import Redactor
    from .secrets import SecretsBackend

SECRETS_TIMEOUT = 5.0
"""How long one episode waits for the secrets backend, in seconds."""


class Resolver:
    """A manager's way to its secrets backend.

    Attributes:
        backend: where references lead.
        resolutions: how many were resolved, by result: `ok` or `error`.
    """

    def __init__(self, backend: SecretsBackend, redactor: Redactor) -> None:
        self.backend = backend
        self.resolutions = {"ok": 0, "error": 0}
        self._redactor = redactor

    async def resolve(self, settings: BaseModel) -> BaseModel:
        """`settings` with every reference resolved anew.

        Raises:
            SecretUnavailable: a reference leads nowhere, or not in time.
            SettingsError: the provider's model refuses what was found.
        """
        with trio.move_on_after(SECRETS_TIMEOUT):
            resolved = await resolve_settings(settings, self.backend, observe=self._count)
            self._redactor.learn(*secrets_in(resolved))
            return resolved
        reference = next(iter(references(settings).values()))
        raise SecretUnavailable(
            reference.path,
            reference.key,
            f"the secrets backend {self.backend.name!r} did not answer in {SECRETS_TIMEOUT:g} s",
            "See whether it is up",
        )

    def _count(self, _: str, result: str) -> None:
        self.resolutions[result] += 1
