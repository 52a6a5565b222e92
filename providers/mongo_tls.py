"""What the settings of a MongoDB say of TLS, and what the driver is told of it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class TlsSettings(BaseModel):
    """TLS in detail. Files are PEM; the key file holds certificate and key.

    Attributes:
        enabled: whether to use TLS at all.
        ca_file: the authorities to trust instead of the system's.
        certificate_key_file: the client's own certificate.
        crl_file: revoked certificates.
        allow_invalid_certificates: trust anybody. For tests.
        allow_invalid_hostnames: trust a certificate for another name. For tests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool = True
    ca_file: str | None = None
    certificate_key_file: str | None = None
    crl_file: str | None = None
    allow_invalid_certificates: bool = False
    allow_invalid_hostnames: bool = False

    @model_validator(mode="after")
    def _enabled_if_used(self) -> Self:
        if not self.enabled and self.model_fields_set - {"enabled"}:
            raise ValueError("TLS is not enabled, but more is said about it: remove one of both")
        return self


def driver_options(tls: bool | TlsSettings | None) -> dict[str, Any]:
    """The driver's keyword arguments; none where nothing is said."""
    if tls is None:
        return {}
    if isinstance(tls, bool):
        return {"tls": tls}
    files = {
        "tlsCAFile": tls.ca_file,
        "tlsCertificateKeyFile": tls.certificate_key_file,
        "tlsCRLFile": tls.crl_file,
    }
    trusted = {
        "tlsAllowInvalidCertificates": tls.allow_invalid_certificates,
        "tlsAllowInvalidHostnames": tls.allow_invalid_hostnames,
    }
    said = {name: value for name, value in (files | trusted).items() if value}
    return {"tls": tls.enabled} | said
