# SPDX-License-Identifier: MIT
"""Keys and certificates to sign modules with, as a user has them: two PEM files."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

__all__ = ["KeyPair", "make_key_pair"]


class KeyPair(NamedTuple):
    """Paths of a key and of its certificate."""

    key: str
    certificate: str


def make_key_pair(
    directory: Path,
    name: str,
    *,
    curve: ec.EllipticCurve | None = None,
    passphrase: bytes = b"",
    skid: bool = True,
) -> KeyPair:
    """Write `name`.key and `name`.pem: RSA with 2048 bits, or a key on `curve`; its subject is CN=`name`.

    With a `passphrase` the key is encrypted; without `skid` the certificate names its key by no identifier.
    """
    key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if skid:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
    certificate = builder.sign(key, hashes.SHA256())
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    pair = KeyPair(str(directory / f"{name}.key"), str(directory / f"{name}.pem"))
    Path(pair.key).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    Path(pair.certificate).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return pair
