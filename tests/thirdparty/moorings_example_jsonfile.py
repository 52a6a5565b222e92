"""`backend = "jsonfile"`: documents in one JSON file. All that a backend of one's own takes."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - pydantic evaluates annotations
from typing import TYPE_CHECKING, Any, ClassVar

import trio
from pydantic import BaseModel, ConfigDict

from moorings.errors import FailureReason
from moorings.providers.contract import DocumentsDatabaseBase

if TYPE_CHECKING:
    from moorings.providers.contract import Notify


class JSONFileSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path


class JSONFile:
    """The client, and the database too: a mapping from ids to documents, kept in a file."""

    def __init__(self, file: Path) -> None:
        self.file = trio.Path(file)

    async def load(self) -> dict[str, Any]:
        documents: dict[str, Any] = json.loads(await self.file.read_text(encoding="utf-8"))
        return documents

    async def save(self, id_: str, document: dict[str, Any]) -> None:
        documents = await self.load() | {id_: document}
        await self.file.write_text(json.dumps(documents), encoding="utf-8")


class JSONFileProvider(DocumentsDatabaseBase):
    settings_model: ClassVar[type[BaseModel]] = JSONFileSettings
    hosts: ClassVar[frozenset[str]] = frozenset({"trio"})

    def endpoint(self, settings: JSONFileSettings) -> str:
        return str(settings.file)

    async def open(self, settings: JSONFileSettings, notify: Notify) -> JSONFile:
        return JSONFile(settings.file)

    async def ping(self, client: JSONFile) -> None:
        await client.file.stat()

    async def verify(self, client: JSONFile) -> None:
        await client.load()

    def database(self, client: JSONFile) -> JSONFile:
        return client

    async def close(self, client: JSONFile) -> None:
        """Nothing is held open."""

    def classify(self, error: BaseException) -> FailureReason | None:
        if isinstance(error, PermissionError):
            return FailureReason.AUTH
        if isinstance(error, OSError):
            return FailureReason.REFUSED
        return FailureReason.CONFIG if isinstance(error, ValueError) else None
