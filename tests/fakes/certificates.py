"""A private certificate authority, as a company's proxy or test system has one. No client trusts it by itself.

It owns the keys, in memory only; on disk is only what `write_bundle` writes. Any thread; nothing runs here.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class PrivateCA:
    """Its certificates are for loopback and for `names`.

    Cheap enough for every test: making one takes 1 ms and each context 1 ms (the first ones 10 ms together). Importing
    `trustme` takes 120 ms, once.
    """

    def __init__(self, *names: str) -> None:
        self._ca = trustme.CA()
        self._certificate = self._ca.issue_cert(*LOOPBACK, *(names or ("dingtalk.test",)))

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context

    def write_bundle(self, folder: Path) -> Path:
        """Write the certificate that a client must trust, as PEM."""
        path = folder / "private-ca.pem"
        self._ca.cert_pem.write_to_path(path)
        return path
