"""Certificates of our own, for servers and clients of ours."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

EXPIRY = dt.datetime(2040, 1, 1, tzinfo=dt.UTC)


class Authority:
    """A certificate authority, and PEM files of what it issues."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ca = trustme.CA()
        self.file = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, *names: str) -> str:
        """Certificate and key of a server that is called so."""
        return self._written("server", self._ca.issue_cert(*names))

    def client(self, name: str, *, expires: dt.datetime = EXPIRY) -> str:
        """Certificate and key of a client that is called so."""
        issued = self._ca.issue_cert(
            common_name=name,
            organization_unit_name="Tests",
            organization_name="Clients",
            not_after=expires,
        )
        return self._written(name, issued)

    def locked(self, name: str, password: str) -> str:
        """As `client`, with the key encrypted."""
        pem = Path(self.client(name)).read_bytes()
        key = serialization.load_pem_private_key(pem, None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
        file = self._folder / f"{name}-locked.pem"
        file.write_bytes(pem[pem.index(b"-----BEGIN CERT") :] + key)
        return str(file)

    def _written(self, name: str, issued: trustme.LeafCert) -> str:
        file = self._folder / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(file))
        return str(file)
