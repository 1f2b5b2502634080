# SPDX-License-Identifier: MIT
"""Who signed a module: signatures that cryptography makes, read here and by kmod's modinfo."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from lkm.formats.signature import append_signature
from lkm.formats.signer import Signer, parse_signer
from tests.builders import make_module
from tests.keys import make_key_pair
from tests.property.tree.compare import a_machine, check_same

DETACHED = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
AS_THE_KERNEL = [*DETACHED, pkcs7.PKCS7Options.NoAttributes, pkcs7.PKCS7Options.NoCerts]


def sign(
    folder: Path,
    module: bytes,
    *,
    name: str = "A key",
    digest: hashes.SHA256 | hashes.SHA512 | None = None,
    options: list[pkcs7.PKCS7Options] = AS_THE_KERNEL,
    elliptic: bool = False,
) -> tuple[bytes, int]:
    """The signed module, and the serial number of the certificate."""
    pair = make_key_pair(folder, name, curve=ec.SECP256R1() if elliptic else None)
    key = serialization.load_pem_private_key(Path(pair.key).read_bytes(), None)
    assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    certificate = x509.load_pem_x509_certificate(Path(pair.certificate).read_bytes())
    builder = pkcs7.PKCS7SignatureBuilder().set_data(module)
    builder = builder.add_signer(certificate, key, digest or hashes.SHA256())
    message = builder.sign(serialization.Encoding.DER, options)
    return append_signature(module, message), certificate.serial_number


def signer_of(data: bytes, known: dict[bytes, Signer] | None = None) -> Signer | None:
    return parse_signer(lambda offset, length: data[offset : offset + length], len(data), known)


def test_a_signature_as_the_kernel_s_build_makes_it(tmp_path: Path) -> None:
    data, serial = sign(tmp_path, make_module("demo"))
    signer = signer_of(data)
    assert signer
    assert (signer.id_type, signer.name, signer.digest) == ("PKCS#7", b"A key", "sha256")
    assert int.from_bytes(signer.key_id, "big") == serial
    assert len(signer.signature) == 256


def test_kmod_says_the_same(tmp_path: Path) -> None:
    """Other digests, keys and forms: certificates and signed attributes in the message."""
    module = make_module("demo")
    with a_machine() as machine:
        for number, (data, _) in enumerate(
            [
                sign(tmp_path, module),
                sign(tmp_path, module, digest=hashes.SHA512(), name="sch\u00f6n"),
                sign(tmp_path, module, options=DETACHED),
                sign(tmp_path, module, elliptic=True),
                sign(tmp_path, module, elliptic=True, options=DETACHED),
                (module + signed_before_4_3(0, 1, b"Someone", b"\x01\x02\x03"), 0),
                (module + signed_before_4_3(1, 4, b"", b"\x00" * 25), 0),
                (module + signed_before_4_3(7, 4, b"x", b"y"), 0),
                (module + signed_before_4_3(1, 9, b"x", b"y"), 0),
            ]
        ):
            machine.write(f"/m{number}.ko", data)
        answer = check_same(machine, "modinfo", *(f"m{number}.ko" for number in range(9)))
        assert answer.out.count("\nsignature:") == 7


def signed_before_4_3(id_type: int, digest: int, name: bytes, key: bytes) -> bytes:
    signature = bytes(range(45))
    trailer = struct.pack(">BBBBB3xI", 1, digest, id_type, len(name), len(key), len(signature))
    return name + key + signature + trailer + b"~Module signature appended~\n"


def test_what_a_build_s_signatures_share_is_read_once(tmp_path: Path) -> None:
    first, _ = sign(tmp_path, make_module("demo"))
    second = bytearray(first)
    second[-200] ^= 0xFF  # in the signature proper
    known: dict[bytes, Signer] = {}
    one, two = signer_of(first, known), signer_of(bytes(second), known)
    assert len(known) == 1
    assert one
    assert two
    assert one.signature != two.signature
    assert (one.name, one.key_id, len(one.signature)) == (two.name, two.key_id, len(two.signature))
    again = signer_of(bytes(second))
    assert again
    assert again.signature == two.signature


def test_a_long_signature_is_read_in_two_steps(tmp_path: Path) -> None:
    name, key = b"n" * 255, b"k" * 255
    signature = bytes(4000)
    trailer = struct.pack(">BBBBB3xI", 0, 4, 1, len(name), len(key), len(signature))
    data = b"module" + name + key + signature + trailer + b"~Module signature appended~\n"
    signer = signer_of(data)
    assert signer
    assert (signer.name, signer.key_id, signer.signature) == (name, key, signature)
    assert signer_of(data[100:]) is None  # it claims more than there is


@pytest.mark.parametrize("data", [b"", b"x", b"~Module signature appended~\n", make_module("demo")])
def test_no_signature(data: bytes) -> None:
    assert signer_of(data) is None


def test_a_damaged_message_is_no_signature_and_no_error(tmp_path: Path) -> None:
    chance = random.Random(2)
    whole, _ = sign(tmp_path, b"module")
    for _ in range(4000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(6, len(data) - 40)] = chance.randrange(256)
        signer_of(bytes(data))
