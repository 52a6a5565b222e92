"""When the certificate that a client shows to servers expires.

The driver reads the file once, when the client is made, and tells nobody what is in it; `ssl` has
no public way to look. Hence `cryptography`, which is optional (`moorings[tls]`): without it
everything works, and nothing is known of the expiry.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .mongo_settings import DriverSettings


def expiry(settings: DriverSettings) -> float | None:
    """When the first certificate of the client's own chain expires. Reads a file: in a thread.

    Returns:
        Unix seconds; None if the client shows no certificate, or nothing can be told of it. What
        is wrong with a file is the driver's to say: it refuses to make a client with it.
    """
    file = settings.certificate_key_file
    if file is None:
        return None
    try:
        from cryptography import x509  # noqa: PLC0415 - optional

        chain = x509.load_pem_x509_certificates(Path(file).read_bytes())
    except (ImportError, OSError, ValueError):
        return None
    return min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
