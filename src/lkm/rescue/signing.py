# SPDX-License-Identifier: MIT
"""Signs a module as the kernel's scripts/sign-file does: a detached PKCS#7 message, and a trailer.

The message names its signer by issuer and serial number, and has neither certificates nor signed attributes:
the signature is over the module itself. Source: scripts/sign-file.c and pkcs7_verify (crypto/asymmetric_keys),
the same in 5.10 and 7.x. Keys are RSA, or since 5.13 on the curves P-256 and P-384 (CONFIG_CRYPTO_ECDSA).

It needs the library `cryptography`, which is imported only where a key is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from lkm.errors import LkmError, UsageError
from lkm.formats.keys import SigningKey
from lkm.formats.signature import append_signature, split_signature
from lkm.system.snapshot import Snapshot

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["HASHES", "Passphrase", "Signer", "load_signer", "sign_module", "with_signer"]

HASHES = ("sha256", "sha384", "sha512")
"""What a message may be hashed with, the first by default: the kernel has it for its own certificate."""

CURVES = ("secp256r1", "secp384r1")

Passphrase = Callable[[], str]
"""Is asked for the passphrase of an encrypted key."""


class Signer(NamedTuple):
    """A private key, its certificate, and the hash that the kernel has built in. `identity` is who it is."""

    key: Any
    certificate: Any
    hash: str
    identity: SigningKey

    def __repr__(self) -> str:
        return f"Signer({self.identity.subject}, {self.hash})"


def with_signer(snapshot: Snapshot, signer: Signer | None) -> Snapshot:
    """The snapshot of a machine on which what is loaded will be signed."""
    if signer is None:
        return snapshot
    return snapshot._replace(policy=snapshot.policy._replace(signer=signer.identity))


def load_signer(
    key_path: str, certificate_path: str, *, passphrase: Passphrase, hash_name: str = HASHES[0]
) -> Signer:
    """Read a key and its certificate, PEM or DER each.

    Raises UsageError for files that do not hold them, do not belong together or are of a kind that no kernel
    takes, and LkmError without the library.
    """
    _need_cryptography()
    certificate = _certificate(_read(certificate_path), certificate_path)
    key = _key(_read(key_path), key_path, passphrase)
    _check_kind(key, key_path)
    if _public_bytes(key) != _public_bytes(certificate):
        raise UsageError(
            f"{key_path} is not the key of {certificate_path} ({certificate.subject.rfc4514_string()})",
            remedy="give the two that belong together",
        )
    identity = SigningKey(certificate.subject.rfc4514_string(), _key_id(certificate))
    return Signer(key, certificate, hash_name if hash_name in HASHES else HASHES[0], identity)


def sign_module(image: bytes, signer: Signer) -> bytes:
    """`image` with a signature; one that it had is replaced."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    payload = bytes(split_signature(image)[0])
    algorithms: dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]
    algorithms = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    options = (
        pkcs7.PKCS7Options.DetachedSignature,
        pkcs7.PKCS7Options.Binary,
        pkcs7.PKCS7Options.NoAttributes,
        pkcs7.PKCS7Options.NoCerts,
    )
    builder = pkcs7.PKCS7SignatureBuilder().set_data(payload)
    builder = builder.add_signer(signer.certificate, signer.key, algorithms[signer.hash])
    return append_signature(payload, builder.sign(Encoding.DER, options))


def _need_cryptography() -> None:
    try:
        import cryptography.hazmat.primitives.serialization.pkcs7  # noqa: F401
    except ImportError as error:
        raise LkmError(
            f"signing needs the Python library cryptography ({error})",
            remedy="install your distribution's python3-cryptography, or the extra: pip install 'lkm[sign]'",
        ) from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _certificate(data: bytes, path: str) -> x509.Certificate:
    from cryptography import x509

    try:
        if b"-----BEGIN " in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise UsageError(
            f"{path} has no certificate: {_first_line(error)}", remedy="give an X.509 certificate, PEM or DER"
        ) from error


def _key(data: bytes, path: str, passphrase: Passphrase) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_private_key
    if b"-----BEGIN " not in data:
        load = serialization.load_der_private_key
    try:
        try:
            return load(data, password=None)
        except TypeError:  # it is encrypted
            return load(data, password=passphrase().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{path} has no private key that can be read: {_first_line(error)}",
            remedy="give a private key, PEM or DER, and the passphrase if it is encrypted",
        ) from error


def _check_kind(key: Any, path: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    fits = isinstance(key, rsa.RSAPrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES
    )
    if not fits:
        raise UsageError(
            f"{path} is of a kind that no kernel takes", remedy="RSA, or ECDSA on P-256 or P-384"
        )


def _public_bytes(owner: Any) -> bytes:
    """The public half of a key or of a certificate; `==` on them is of cryptography 40."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded: bytes = owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _key_id(certificate: x509.Certificate) -> str:
    """As x509_key_preparse describes a key: the identifier in the certificate, else its serial number as DER
    has it, without one leading zero byte."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        raw = extension.value.digest
    except x509.ExtensionNotFound:
        number = certificate.serial_number
        raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return (raw[1:] if len(raw) > 1 and raw[0] == 0 else raw).hex()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
