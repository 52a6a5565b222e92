"""References to secrets, resolved on every episode: bounded, counted, and redacted from then on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import trio
from pydantic import SecretStr

from ..errors import SecretUnavailable
from ..providers.references import references
from ..providers.references import secrets as secrets_in
from .secrets import find_secrets, substituted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pydantic import BaseModel

    from ..providers.references import SecretReference
    from .redaction import Redactor
    from .secrets import Found, SecretsBackend

logger = logging.getLogger("moorings")

SECRETS_TIMEOUT = 5.0
"""How long one episode waits for the secrets backend, in seconds."""

BATCH = 10
"""So many references share that bound where all connections' are looked at."""


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
        self._asking: dict[frozenset[SecretReference], _Asking] = {}

    async def resolve(self, settings: BaseModel) -> BaseModel:
        """`settings` with every reference resolved anew.

        Raises:
            SecretUnavailable: a reference leads nowhere, or not in time.
            SettingsError: the provider's model refuses what was found.
        """
        wanted = frozenset(references(settings).values())
        if not wanted:
            return settings
        return self.substituted(settings, await self.find(wanted))

    async def find(self, wanted: Collection[SecretReference]) -> Found:
        """What each reference leads to now, or why it leads nowhere (in time). Bounded."""
        same = frozenset(wanted)
        asking = self._asking.setdefault(same, _Asking())
        asking.askers += 1
        ours = asking.next
        try:
            with trio.move_on_after(SECRETS_TIMEOUT):
                # A thousand connections of one login ask once, and once more for those who came
                # after that was begun: what they are told has to be from after they asked.
                async with asking.turn:
                    if ours.found is None:
                        if asking.next is ours:
                            asking.next = _Round()
                        ours.found = await find_secrets(same, self.backend, observe=self._count)
                    return ours.found
        finally:
            asking.askers -= 1
            if asking.askers == 0:
                del self._asking[same]
        return {reference: _too_late(reference, self.backend.name) for reference in same}

    async def find_all(self, wanted: Collection[SecretReference]) -> Found:
        """As `find`, however many they are: the bound is for each few of them.

        What is at one path is asked for together. Once none of a few is found in time, the others
        are not asked for: each few of them would take as long.
        """
        found: dict[SecretReference, SecretStr | SecretUnavailable] = {}
        for some in _in_batches(wanted):
            came = dict(await self.find(some))
            found |= came
            if all(isinstance(value, _TooLate) for value in came.values()):
                rest = set(wanted) - found.keys()
                return found | {r: _too_late(r, self.backend.name) for r in rest}
        return found

    def substituted(self, settings: BaseModel, found: Found) -> BaseModel:
        """`settings` with what was found in place of its references; errors as `resolve`."""
        # Before they may be in an error; not on every look, most of which find nothing new.
        self._redactor.learn(*(v for v in found.values() if isinstance(v, SecretStr)))
        resolved = substituted(settings, found, self.backend.name)
        self._redactor.learn(*secrets_in(resolved))
        return resolved

    def replace(self, backend: SecretsBackend) -> None:
        """Go by another backend from now on."""
        self.close()
        self.backend = backend

    def close(self) -> None:
        """Let the backend let go of what it holds; its bug ends nothing but that."""
        try:
            self.backend.close()
        except Exception as error:  # noqa: BLE001 - somebody else's code; its text may be secret
            logger.warning(
                "the secrets backend %r could not be closed: %s",
                self.backend.name,
                type(error).__name__,
            )

    def _count(self, _: str, result: str) -> None:
        self.resolutions[result] += 1


@dataclass(eq=False)
class _Round:
    """What those are told who asked for the same before the backend was asked."""

    found: Found | None = None


@dataclass(eq=False)
class _Asking:
    """Those who ask for the same at present; the first of each round asks the backend."""

    turn: trio.Lock = field(default_factory=trio.Lock)
    next: _Round = field(default_factory=_Round)
    askers: int = 0


class _TooLate(SecretUnavailable):
    """The backend did not answer in time."""


def _in_batches(wanted: Collection[SecretReference]) -> Iterator[list[SecretReference]]:
    batch: list[SecretReference] = []
    by_path = sorted(wanted, key=lambda reference: (reference.path, reference.key))
    for _, references_at in groupby(by_path, key=lambda reference: reference.path):
        batch += references_at
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _too_late(reference: SecretReference, backend: str) -> SecretUnavailable:
    return _TooLate(
        reference.path,
        reference.key,
        f"the secrets backend {backend!r} did not answer in {SECRETS_TIMEOUT:g} s",
        "See whether it is up",
    )
