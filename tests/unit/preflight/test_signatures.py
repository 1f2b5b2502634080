# SPDX-License-Identifier: MIT
"""Signatures by keys that the kernel has and has not, verified with certificates out of its image."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from lkm.formats.pkcs7 import (
    CertificateError,
    parse_certificate,
    parse_certificates,
    rsa_numbers,
    signer_of,
)
from lkm.formats.signature import split_signature
from lkm.preflight.certificates import find_certificates, verifier
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Target, Verdict
from lkm.preflight.values import Cause, Certainty, Prediction
from lkm.rescue.signing import load_signer, sign_module
from tests.keys import KeyPair, make_key_pair
from tests.unit.preflight.world import module, target


def der_of(pair: KeyPair) -> bytes:
    return x509.load_pem_x509_certificate(Path(pair.certificate).read_bytes()).public_bytes(Encoding.DER)


def signed(pair: KeyPair, hash_name: str = "sha256") -> bytes:
    return sign_module(module(), load_signer(pair.key, pair.certificate, passphrase=str, hash_name=hash_name))


def kernel_of(data: bytes, *certificates: bytes) -> Target:
    """A kernel whose own modules are signed as `data` is, and whose image has these certificates."""
    signature = split_signature(data)[1]
    signer = signer_of(signature.signature) if signature else None
    assert signer is not None
    image = b"\0" * 100 + b"".join(certificates) + b"0\x82" * 9
    return target(signers=frozenset({signer}), verify=verifier(find_certificates(image)))


def notes(prediction: Prediction) -> list[tuple[Cause, int | None]]:
    return [(problem.cause, problem.errno) for problem in prediction.problems]


def test_a_message_whose_signer_is_not_told_to_the_end_is_none(tmp_path: Path) -> None:
    data = signed(make_key_pair(tmp_path, "builder", curve=ec.SECP384R1()))
    signature = split_signature(data)[1]
    assert signature is not None
    message = bytearray(signature.signature)
    at = message.rindex(bytes.fromhex("06082a8648ce3d0403")) + 1  # the length of the kind of key
    assert signer_of(bytes(message)) is not None
    for bit in range(8):
        message[at] ^= 1 << bit
        assert signer_of(bytes(message)) is None
        message[at] ^= 1 << bit


@pytest.mark.parametrize("curve", [None, ec.SECP384R1()], ids=["rsa", "ecdsa"])
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_was_changed_after_signing_is_fatal(
    tmp_path: Path, curve: ec.EllipticCurve | None, hash_name: str
) -> None:
    pair = make_key_pair(tmp_path, "builder", curve=curve)
    data = signed(pair, hash_name)
    kernel = kernel_of(data, der_of(make_key_pair(tmp_path, "other")), der_of(pair))
    assert notes(check_module(data, kernel)) == []
    at = data.index(b"license=GPL")
    changed = data[:at] + b"license=XYZ" + data[at + 11 :]
    prediction = check_module(changed, kernel)
    assert (prediction.errno, notes(prediction)[0]) == (
        errno.EKEYREJECTED,
        (Cause.SIGNATURE_REJECTED, errno.EKEYREJECTED),
    )


def test_another_signer_is_a_taint_or_a_refusal(tmp_path: Path) -> None:
    ours, theirs = make_key_pair(tmp_path, "ours"), make_key_pair(tmp_path, "theirs")
    kernel = kernel_of(signed(ours), der_of(ours))
    assert notes(check_module(signed(theirs), kernel)) == [(Cause.UNSIGNED, None)]
    enforcing = kernel._replace(policy=kernel.policy._replace(sig_enforce=True))
    prediction = check_module(signed(theirs), enforcing)
    assert prediction.errno == errno.EKEYREJECTED
    assert prediction.lines == ("Loading of module with unavailable key is rejected",)
    assert check_module(signed(ours), enforcing).loads


def test_without_the_certificate_a_note_says_what_was_not_verified(tmp_path: Path) -> None:
    pair = make_key_pair(tmp_path, "builder")
    prediction = check_module(signed(pair), kernel_of(signed(pair)))
    assert prediction.loads
    assert [(p.cause, p.errno, p.certainty) for p in prediction.problems] == [
        (Cause.SIGNATURE_REJECTED, None, Certainty.UNKNOWN)
    ]


def test_a_certificate_that_is_given_is_trusted(tmp_path: Path) -> None:
    """As if it were enrolled: a signature by it holds, and what was changed is refused."""
    ours, theirs = make_key_pair(tmp_path, "ours"), make_key_pair(tmp_path, "theirs")
    kernel = kernel_of(signed(ours), der_of(ours))
    enforcing = kernel._replace(policy=kernel.policy._replace(sig_enforce=True))
    given = enforcing._replace(verify=verifier([der_of(ours), der_of(theirs)]))
    data = signed(theirs)
    assert check_module(data, enforcing).errno == errno.EKEYREJECTED
    prediction = check_module(data, given)
    assert (prediction.loads, prediction.signature, notes(prediction)) == (True, Verdict.HOLDS, [])
    assert check_module(data.replace(b"license=GPL", b"license=XYZ"), given).signature is Verdict.CHANGED


def test_certificates_are_read_as_pem_and_der(tmp_path: Path) -> None:
    one, two = make_key_pair(tmp_path, "one"), make_key_pair(tmp_path, "two")
    both = Path(one.certificate).read_bytes() + b"and\n" + Path(two.certificate).read_bytes()
    assert parse_certificates(both) == (der_of(one), der_of(two))
    assert parse_certificates(der_of(one)) == (der_of(one),)
    text = Path(one.certificate).read_bytes()
    for junk in (b"", b"junk", Path(one.key).read_bytes(), text[:60] + b"=" + text[61:]):
        with pytest.raises(CertificateError, match="FILE: "):
            parse_certificates(junk, name="FILE")


@pytest.mark.parametrize("curve", [None, ec.SECP256R1()], ids=["rsa", "ecdsa"])
def test_the_key_of_a_certificate(tmp_path: Path, curve: ec.EllipticCurve | None) -> None:
    """RSA's numbers are read here, which spares an import; other keys by the library."""
    pair = make_key_pair(tmp_path, "one", curve=curve)
    found = parse_certificate(der_of(pair))
    assert found is not None
    numbers = x509.load_der_x509_certificate(der_of(pair)).public_key().public_numbers()  # type: ignore[union-attr]
    if isinstance(numbers, rsa.RSAPublicNumbers):
        assert rsa_numbers(found.key) == (numbers.n, numbers.e)
    else:
        assert rsa_numbers(found.key) is None
