"""One connection through the proxy, and how the network is that it goes through."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trio

HEADER: Final = 16
"""Bytes of a MongoDB message's header, which begins with its length."""
_FLIP: Final = bytes(255 - byte for byte in range(256))
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time at all; closing then resets."""


@dataclass(frozen=True)
class Weather:
    """How the network is until further notice."""

    closed: bool = False
    silent: bool = False
    delay: float = 0.0
    rate: float = math.inf
    flipped_from: int | None = None

    def piece_of(self, chunk: bytes) -> bytes:
        """What of `chunk` goes in one go: a tenth of a second's worth."""
        return chunk if self.rate == math.inf else chunk[: max(1, int(self.rate / 10))]

    def pause(self, piece: bytes, *, of_server: bool) -> float:
        """How long `piece` is held, in seconds."""
        return (self.delay if of_server else 0.0) + len(piece) / self.rate

    def spoilt(self, piece: bytes, *, of_server: bool) -> bytes:
        kept = self.flipped_from
        if kept is None or not of_server:
            return piece
        return piece[:kept] + piece[kept:].translate(_FLIP)


@dataclass(eq=False)
class Link:
    """One client's connection, and ours to the server on its behalf."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    deaf: bool = False
    """The server's side has ended, and the client does not know."""

    @property
    def sockets(self) -> int:
        streams = (self.client, self.server)
        return sum(stream is not None and stream.socket.fileno() != -1 for stream in streams)

    def end_server(self) -> None:
        """End the server's side; the client is not told."""
        self.deaf = True
        if self.server is not None:
            _close(self.server, reset=False)

    def close(self, *, reset: bool = False) -> None:
        for stream in (self.client, self.server):
            if stream is not None:
                _close(stream, reset=reset)


def _close(stream: trio.SocketStream, *, reset: bool) -> None:
    if reset:
        with contextlib.suppress(OSError):  # the other side has been faster
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    stream.socket.close()
