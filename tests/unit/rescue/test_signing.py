# SPDX-License-Identifier: MIT
"""Signatures that the kernel can verify, and what is said of keys that cannot make one."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from lkm.errors import LkmError, UsageError
from lkm.formats.signature import MARKER, PKEY_ID_PKCS7, split_signature
from lkm.rescue.signing import load_signer, sign_module, with_signer
from tests.keys import KeyPair, make_key_pair
from tests.snapshots import make_module, make_snapshot

IMAGE = b"\x7fELF\r\n\n a module \x00" * 99
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("keys"), "mine")


def certificate_of(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(pair.certificate).read_bytes())


def message_of(signed: bytes) -> bytes:
    """The PKCS#7 message at the end of a module; the rest is IMAGE."""
    payload, signature = split_signature(signed)
    assert bytes(payload) == IMAGE
    assert signature
    assert signature.id_type == PKEY_ID_PKCS7
    assert (signature.algo, signature.hash, signature.signer, signature.key_id) == (0, 0, b"", b"")
    return signature.signature


@pytest.mark.parametrize("name", HASHES)
def test_an_rsa_signature_is_over_the_module_itself(pair: KeyPair, name: str) -> None:
    """No attributes, no certificates; the signer is told by issuer and serial number."""
    signer = load_signer(pair.key, pair.certificate, passphrase=str, hash_name=name)
    signed = sign_module(IMAGE, signer)
    assert signed.endswith(MARKER)
    message = message_of(signed)
    certificate = certificate_of(pair)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(message[-256:], IMAGE, padding.PKCS1v15(), HASHES[name])
    assert certificate.issuer.public_bytes() in message
    assert certificate.serial_number.to_bytes(20, "big") in message
    assert certificate.public_bytes(serialization.Encoding.DER) not in message
    assert len(message) < 256 + 160


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: curve.name)
def test_an_ecdsa_signature_verifies(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    pair = make_key_pair(tmp_path, "mine", curve=curve)
    message = message_of(sign_module(IMAGE, load_signer(pair.key, pair.certificate, passphrase=str)))
    at = max(i for i in range(len(message) - 1) if message[i] == 4 and message[i + 1] == len(message) - i - 2)
    key = certificate_of(pair).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(message[at + 2 :], IMAGE, ec.ECDSA(hashes.SHA256()))


def test_a_signature_replaces_the_one_before(pair: KeyPair) -> None:
    signer = load_signer(pair.key, pair.certificate, passphrase=str)
    once = sign_module(IMAGE, signer)
    assert sign_module(once, signer) == once


def test_an_unknown_hash_of_the_kernel_gives_way_to_sha256(pair: KeyPair) -> None:
    assert load_signer(pair.key, pair.certificate, passphrase=str, hash_name="sha3-256").hash == "sha256"


def test_key_and_certificate_may_be_der(pair: KeyPair, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(Path(pair.key).read_bytes(), None)
    der = serialization.Encoding.DER
    (tmp_path / "key").write_bytes(
        key.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "cert").write_bytes(certificate_of(pair).public_bytes(der))
    signer = load_signer(str(tmp_path / "key"), str(tmp_path / "cert"), passphrase=str)
    assert signer.identity == load_signer(pair.key, pair.certificate, passphrase=str).identity


def test_one_file_may_hold_both(pair: KeyPair, tmp_path: Path) -> None:
    """As the kernel's certs/signing_key.pem does."""
    both = tmp_path / "signing_key.pem"
    both.write_bytes(Path(pair.key).read_bytes() + Path(pair.certificate).read_bytes())
    assert load_signer(str(both), str(both), passphrase=str).identity.subject == "CN=mine"


def test_a_key_is_told_by_the_identifier_that_the_kernel_shows(pair: KeyPair, tmp_path: Path) -> None:
    extension = certificate_of(pair).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    digest = extension.value.digest.hex()
    assert load_signer(pair.key, pair.certificate, passphrase=str).identity.id == digest.removeprefix("00")
    plain = make_key_pair(tmp_path, "plain", skid=False)
    serial = certificate_of(plain).serial_number
    assert int(load_signer(plain.key, plain.certificate, passphrase=str).identity.id, 16) == serial


def test_the_passphrase_is_asked_for_where_it_is_needed(pair: KeyPair, tmp_path: Path) -> None:
    asked = []

    def passphrase() -> str:
        asked.append(1)
        return "open sesame"

    locked = make_key_pair(tmp_path, "locked", passphrase=b"open sesame")
    load_signer(pair.key, pair.certificate, passphrase=passphrase)
    assert not asked
    load_signer(locked.key, locked.certificate, passphrase=passphrase)
    assert asked == [1]
    for wrong in ("", "open barley"):
        with pytest.raises(UsageError, match=r"locked\.key.*passphrase"):
            load_signer(locked.key, locked.certificate, passphrase=partial(str, wrong))


def test_key_and_certificate_must_belong_together(pair: KeyPair, tmp_path: Path) -> None:
    other = make_key_pair(tmp_path, "other")
    with pytest.raises(UsageError, match=r"mine\.key is not the key of .*other\.pem \(CN=other\)"):
        load_signer(pair.key, other.certificate, passphrase=str)


def test_a_key_of_a_kind_that_no_kernel_takes(pair: KeyPair, tmp_path: Path) -> None:
    keys = (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1()))
    for key in keys:
        path = tmp_path / "odd.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        with pytest.raises(UsageError, match="RSA, or ECDSA"):
            load_signer(str(path), pair.certificate, passphrase=str)


def test_files_that_hold_neither(pair: KeyPair, tmp_path: Path) -> None:
    for text in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"):
        bad = tmp_path / "bad"
        bad.write_bytes(text)
        with pytest.raises(UsageError, match="bad has no certificate"):
            load_signer(pair.key, str(bad), passphrase=str)
        with pytest.raises(UsageError, match="bad has no private key"):
            load_signer(str(bad), pair.certificate, passphrase=str)
    with pytest.raises(UsageError, match="none cannot be read: No such file"):
        load_signer(str(tmp_path / "none"), pair.certificate, passphrase=str)


def test_without_the_library_it_says_how_to_get_it(pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(LkmError, match=r"python3-cryptography.*lkm\[sign\]") as caught:
        load_signer(pair.key, pair.certificate, passphrase=str)
    assert caught.value.exit_code == 1


def test_the_snapshot_knows_who_will_sign(pair: KeyPair) -> None:
    signer = load_signer(pair.key, pair.certificate, passphrase=str)
    snapshot = make_snapshot(make_module("x"))
    assert with_signer(snapshot, None) is snapshot
    assert with_signer(snapshot, signer).policy.signer == signer.identity
    assert "PRIVATE" not in repr(signer)
