"""A stand-in for a Vault server: not Vault, but what of its HTTP API the backend `vault` uses.

The paths, status codes and JSON of Vault's documented API for the key-value engine, version 2, for
tokens and for AppRole, over real HTTP (or HTTPS) on loopback, in a thread. Policies, leases of
secrets, wrapping and everything else are not there. What it answers to is listed in `_ROUTES`.

A fixture module: the fixture is `vault`.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

ROOT = "hvs.root-of-the-stand-in"
ROLE_ID, SECRET_ID = "role-3f1c", "secret-id-9a7d"


@dataclass
class Token:
    """What the server knows of a token; `until` is on the monotonic clock, None: for ever."""

    ttl: float = 0
    renewable: bool = False
    until: float | None = None
    may_read: bool = True


@dataclass
class Vault:
    """The server's state, and switches for what may be wrong with it."""

    secrets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # versions, by path
    tokens: dict[str, Token] = field(default_factory=lambda: {ROOT: Token()})
    token_ttl: int = 3600
    renewable: bool = True
    namespace: str | None = None
    sealed: bool = False
    silent: bool = False  # accepts, and never answers
    garbage: bool = False  # answers as another web server would
    status: int | None = None  # answers with this
    calls: list[str] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None
    thread: threading.Thread | None = None
    scheme: str = "http"
    _woken: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        assert self.server is not None
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"

    def put(self, path: str, **values: Any) -> None:
        """A new version."""
        self.secrets.setdefault(path, []).append(values)

    def count(self, call: str) -> int:
        return self.calls.count(call)

    def revoke_all(self) -> None:
        self.tokens.clear()

    def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> Vault:
        vault = self

        class Handler(_Handler):
            state = vault

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = False
        if tls is not None:
            self.scheme = "https"
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def stop(self) -> None:
        self._woken.set()
        if self.server is not None and self.thread is not None:
            self.server.shutdown()
            self.thread.join()
            self.server.server_close()
        self.server = self.thread = None

    # what it answers

    def answer(self, method: str, path: str, headers: Any, body: Any) -> tuple[int, Any]:
        if self.silent:
            self._woken.wait()
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if self.status is not None:
            return self.status, {"errors": ["as told"]}
        if self.namespace != headers.get("X-Vault-Namespace"):
            return 404, {"errors": ["no handler for route. route entry not found."]}
        for prefix, wanted, name in _ROUTES:
            if path.startswith(prefix) and method in wanted:
                self.calls.append(name)
                found: tuple[int, Any] = getattr(self, f"_{name}")(
                    path.removeprefix(prefix), headers.get("X-Vault-Token", ""), body
                )
                return found
        return 404, {"errors": [f"no handler for route {path!r}"]}

    def _known(self, token: str) -> Token | None:
        known = self.tokens.get(token)
        if known is None or (known.until is not None and time.monotonic() > known.until):
            return None
        return known

    def _read(self, path: str, token: str, _: Any) -> tuple[int, Any]:
        known = self._known(token)
        if known is None or not known.may_read:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        versions = self.secrets.get(path)
        if not versions:
            return 404, {"errors": []}
        metadata = {"version": len(versions), "destroyed": False, "deletion_time": ""}
        return 200, {"data": {"data": versions[-1], "metadata": metadata}}

    def _lookup(self, _: str, token: str, __: Any) -> tuple[int, Any]:
        known = self._known(token)
        if known is None:
            return 403, {"errors": ["permission denied"]}
        return 200, {"data": {"id": token, "ttl": known.ttl, "renewable": known.renewable}}

    def _renew(self, _: str, token: str, __: Any) -> tuple[int, Any]:
        known = self._known(token)
        if known is None:
            return 403, {"errors": ["permission denied"]}
        if not known.renewable:
            return 400, {"errors": ["lease is not renewable"]}
        known.until = time.monotonic() + self.token_ttl
        return 200, {"auth": self._auth(token)}

    def _login(self, _: str, __: str, body: Any) -> tuple[int, Any]:
        if (body.get("role_id"), body.get("secret_id")) != (ROLE_ID, SECRET_ID):
            return 400, {"errors": ["invalid role or secret ID"]}
        token = f"hvs.{uuid4().hex}"
        until = time.monotonic() + self.token_ttl
        self.tokens[token] = Token(self.token_ttl, self.renewable, until)
        return 200, {"auth": self._auth(token)}

    def _auth(self, token: str) -> dict[str, Any]:
        return {
            "client_token": token,
            "lease_duration": self.token_ttl,
            "renewable": self.tokens[token].renewable,
        }


_ROUTES = (
    ("/v1/secret/data/", {"GET"}, "read"),
    ("/v1/auth/token/lookup-self", {"GET"}, "lookup"),
    ("/v1/auth/token/renew-self", {"POST", "PUT"}, "renew"),
    ("/v1/auth/approle/login", {"POST", "PUT"}, "login"),
)


class _Handler(BaseHTTPRequestHandler):
    state: Vault

    def do_GET(self) -> None:
        self._reply("GET", {})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._reply("POST", json.loads(self.rfile.read(length) or b"{}"))

    do_PUT = do_POST  # noqa: N815 - the name that http.server calls

    def _reply(self, method: str, body: Any) -> None:
        path = self.path.partition("?")[0]
        status, reply = self.state.answer(method, path, self.headers, body)
        content = b"<html>it works</html>" if self.state.garbage else json.dumps(reply).encode()
        kind = "text/html" if self.state.garbage else "application/json"
        self.send_response(200 if self.state.garbage else status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: tests look at `calls`."""


@pytest.fixture
def vault() -> Iterator[Vault]:
    """A running stand-in that holds `database/mongo`: a URL and a password."""
    made = Vault()
    made.put("database/mongo", url="mongodb://one", password="first-pässword")
    made.start()
    yield made
    made.stop()
