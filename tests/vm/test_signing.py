# SPDX-License-Identifier: MIT
"""Where the kernel takes signed modules only: a rescue with a key that it trusts, and with none or another."""

from __future__ import annotations

import glob
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lkm.formats.signature import split_signature
from lkm.lab.cache import silent
from lkm.lab.headers import header_tree
from lkm.lab.kernels import get_kernel
from lkm.lab.series import find_series
from lkm.lab.vm import Guest
from lkm.rescue.signing import load_signer, sign_module
from tests.keys import make_key_pair
from tests.vm.conftest import KERNELS
from tests.vm.signing import Signed, ask_signing, sign_faults
from tests.vm.talk import prepare, run_python, untrue

STUCK = ("dies insmod bug_mod1.ko", "is bug_mod1 coming")
UNTOUCHED = ("is bug_mod1 coming", '[ "$(count_of bug_mod1)" = 1 ]', "! grep -q lkm_helper /proc/modules")
ENFORCE = "echo 1 >/sys/module/module/parameters/sig_enforce"
RESCUE = ("rescue", "bug_mod1", "--json")
KEY = ("--sign-key", "/share/lab.key", "--sign-cert", "/share/lab.pem")


AMD64 = [name for name in KERNELS if find_series(name).architecture == "amd64"]
"""The guest signs with this machine's build of cryptography."""

READS_UEFI_KEYS = [name for name in AMD64 if name != "5.10"]
"""Debian's 5.10 for clouds has no keyring for the firmware's keys, so that no key of a user's can sign for it."""


@pytest.fixture
def signed(tmp_path: Path, faults: str) -> Signed:
    """The faults, signed by a key that no kernel knows until a firmware has it."""
    return sign_faults(tmp_path, faults)


ENFORCES = "grep -q Y /sys/module/module/parameters/sig_enforce"
LOCKED = "grep -qF '[integrity]' /sys/kernel/security/lockdown"


class Machine(NamedTuple):
    """How the guest is started, and a shell line that then holds."""

    append: str
    secure_boot: bool
    holds: str


@pytest.mark.parametrize("kernel", READS_UEFI_KEYS)
@pytest.mark.parametrize(
    "machine",
    [
        Machine("module.sig_enforce=1", False, ENFORCES),
        Machine("lockdown=integrity", False, LOCKED),
        Machine("", True, f"{LOCKED} && {ENFORCES}"),
    ],
    ids=["enforced signatures", "lockdown", "Secure Boot"],
)
def test_a_helper_signed_by_a_trusted_key_rescues(
    kernel: str, signed: Signed, faults: str, machine: Machine
) -> None:
    shutil.copy(f"{faults}/decmod.ko", f"{signed.share}/unsigned.ko")
    certificate = signed.pair.certificate
    with Guest.boot(
        kernel,
        share=signed.share,
        append=machine.append,
        firmware_cert=certificate,
        secure_boot=machine.secure_boot,
    ) as guest:
        prepare(guest, [machine.holds, "! insmod unsigned.ko", *STUCK])
        without = ask_signing(guest, *RESCUE)
        assert (without.code, without.object["outcome"]) == (3, "refused"), without
        assert "--sign-key" in without.object["remedy"], without
        assert not untrue(guest, UNTOUCHED), without

        answer = ask_signing(guest, *RESCUE, *KEY)
        assert (answer.code, answer.object["outcome"]) == (0, "rescued"), answer
        assert any("CN=lab" in note and ".platform" in note for note in answer.object["plan"]["warnings"]), (
            answer
        )
        assert all(check["holds"] for check in answer.object["proof"]), answer
        # The leak's own exit runs here: edits of another kind.
        prepare(guest, ["gone bug_mod1", "insmod leak_ref.ko count=3"])
        leaked = ask_signing(guest, "rescue", "leak_ref", "--json", *KEY)
        assert (leaked.code, leaked.object["outcome"]) == (0, "rescued"), leaked
        # An unsigned helper would have left its mark: E, an unsigned module was loaded.
        assert not untrue(guest, ["gone leak_ref", "[ $(($(cat /proc/sys/kernel/tainted) >> 13 & 1)) = 0 ]"])


@pytest.mark.parametrize("kernel", ["7.3"])
def test_an_ecdsa_key_signs_too(kernel: str, faults: str, tmp_path: Path) -> None:
    """The kernel's own key is one, from 6.12 on."""
    signed = sign_faults(tmp_path, faults, ec.SECP384R1())
    with Guest.boot(
        kernel, share=signed.share, append="module.sig_enforce=1", firmware_cert=signed.pair.certificate
    ) as guest:
        prepare(guest, [ENFORCES, *STUCK])
        answer = ask_signing(guest, *RESCUE, *KEY)
        assert (answer.code, answer.object["outcome"]) == (0, "rescued"), answer


ADD_KEY = """
import base64, ctypes, os
lines = open("/share/lab.pem").read().split("-----")[2]
certificate = base64.b64decode(lines)
call = ctypes.CDLL(None, use_errno=True).syscall
key = call(248, b"asymmetric", b"", certificate, ctypes.c_size_t(len(certificate)), -4)  # KEY_SPEC_USER_KEYRING
assert key > 0, os.strerror(ctypes.get_errno())
assert any(" lab: " in line for line in open("/proc/keys")), "it is not listed"
"""
"""The certificate as a key of the user's own: listed in /proc/keys, and no reason to trust it."""


@pytest.mark.parametrize("kernel", AMD64)
def test_a_key_that_is_in_no_keyring_for_modules_is_refused(kernel: str, signed: Signed) -> None:
    with Guest.clone(kernel, share=signed.share) as guest:
        run_python(guest, ADD_KEY)
        prepare(guest, [*STUCK, ENFORCE])
        answer = ask_signing(guest, *RESCUE, *KEY)
        assert (answer.code, answer.object["outcome"]) == (3, "refused"), answer
        assert "does not have the key of CN=lab" in answer.object["reason"], answer
        assert "enrol" in answer.object["remedy"], answer
        assert not answer.object["record"], answer
        assert not untrue(guest, UNTOUCHED), answer


@pytest.mark.parametrize("kernel", AMD64)
def test_a_helper_that_the_kernel_rejects_writes_nothing(kernel: str, signed: Signed) -> None:
    """Where the keyrings cannot be read, only the kernel can tell."""
    with Guest.clone(kernel, share=signed.share) as guest:
        prepare(guest, [*STUCK, ENFORCE, "mount --bind /dev/null /proc/keys"])
        answer = ask_signing(guest, *RESCUE, *KEY)
        assert (answer.code, answer.object["outcome"]) == (1, "failed"), answer
        assert "it does not trust the key of CN=lab" in answer.object["reason"], answer
        assert "nothing was written" in answer.object["reason"], answer
        assert not untrue(guest, UNTOUCHED), answer


@pytest.mark.parametrize("kernel", AMD64)
def test_where_nothing_is_enforced_any_key_will_do(kernel: str, signed: Signed) -> None:
    with Guest.clone(kernel, share=signed.share) as guest:
        prepare(guest, STUCK)
        answer = ask_signing(guest, *RESCUE, *KEY)
        assert (answer.code, answer.object["outcome"]) == (0, "rescued"), answer


@pytest.mark.parametrize("signature_hash", ["sha256", "sha512"])
def test_the_signature_is_that_of_the_kernels_own_tool(tmp_path: Path, signature_hash: str) -> None:
    """scripts/sign-file of the kernel's build: an RSA signature has no chance in it, so it is the same. (The
    messages differ by four bytes: a NULL for the parameters of the hash, which may be there or not.)"""
    headers = header_tree(get_kernel("6.1", progress=silent))
    (tool,) = glob.glob(f"{headers}/../../lib/linux-kbuild-*/scripts/sign-file")
    pair = make_key_pair(tmp_path, "lab")
    module, theirs = tmp_path / "some.ko", tmp_path / "theirs.ko"
    module.write_bytes(b"\x7fELF\r\n a module \x00" * 999)
    subprocess.run([tool, signature_hash, pair.key, pair.certificate, module, theirs], check=True)
    signer = load_signer(pair.key, pair.certificate, passphrase=str, hash_name=signature_hash)
    payload, mine = split_signature(sign_module(module.read_bytes(), signer))
    expected_payload, expected = split_signature(theirs.read_bytes())
    assert bytes(payload) == bytes(expected_payload)
    assert mine
    assert expected
    assert mine._replace(signature=b"") == expected._replace(signature=b"")
    assert mine.signature[-256:] == expected.signature[-256:]
