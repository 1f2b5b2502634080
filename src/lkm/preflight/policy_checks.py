# SPDX-License-Identifier: MIT
"""What the machine forbids whatever the file is like, and what it asks of signatures.

Sources: may_init_module, blacklisted and load_module (kernel/module.c 5.10, kernel/module/main.c 6.1 to 7.3);
module_sig_check and mod_verify_sig (kernel/module/signing.c); mod_check_sig (kernel/module_signature.c);
pkcs7_validate_trust_one (crypto/asymmetric_keys/pkcs7_trust.c).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lkm.formats.pkcs7 import signer_of
from lkm.formats.raw_module import HEADER_SIZE
from lkm.formats.signature import MARKER, PKEY_ID_PKCS7
from lkm.formats.signer import TRAILER
from lkm.preflight.kernel import Verdict
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Certainty, Problem, StageResult

__all__ = ["check_blacklist", "check_content", "check_privilege", "check_signature"]

_AGAIN = "sign or copy the file again"
_ANEW = "copy or build it again"


def check_privilege(load: Load) -> StageResult:
    """may_init_module: CAP_SYS_MODULE, and modules not disabled."""
    policy = load.target.policy
    found = []
    if policy.cap_sys_module is False:
        found.append(
            Problem(
                Cause.NO_PRIVILEGE,
                errno.EPERM,
                "the caller has no CAP_SYS_MODULE",
                "load it as root, outside a container",
                "may_init_module",
            )
        )
    if policy.modules_disabled:
        found.append(
            Problem(
                Cause.MODULES_DISABLED,
                errno.EPERM,
                "kernel.modules_disabled is set: nothing is loaded until the next boot",
                "boot without setting it",
                "may_init_module",
            )
        )
    return StageResult(tuple(found))


def check_content(load: Load) -> StageResult:
    """What there is of it: an empty file ends in kernel_read_file, a short one that a tool has unpacked in
    copy_module_from_user (kernel/module.c, kernel/module/main.c); one that is read by the kernel goes on."""
    size = len(load.file)
    if load.request.unpacked and size < HEADER_SIZE:
        words = f"what it unpacks to has {size} bytes, less than an ELF header: nothing is said of that"
        return StageResult((Problem(Cause.FILE, errno.ENOEXEC, words, _ANEW, "copy_module_from_user"),))
    if not size:
        return StageResult(
            (Problem(Cause.FILE, errno.EINVAL, "the file is empty", _ANEW, "kernel_read_file"),)
        )
    return StageResult(())


def check_blacklist(load: Load) -> StageResult:
    """blacklisted: the kernel's own module_blacklist=, compared as it stands (`-` is not `_`)."""
    names = load.target.policy.blacklist or ()
    if load.info_name not in names:
        return StageResult(())
    return StageResult(
        (
            Problem(
                Cause.BLACKLISTED,
                errno.EPERM,
                f"module_blacklist= on the kernel's command line has {load.info_name}",
                "boot without it in module_blacklist=",
                "blacklisted",
                (f"Module {load.info_name} is blacklisted",),
                load.certainty,
            ),
        )
    )


def check_signature(load: Load) -> StageResult:
    """module_sig_check: cuts the signature off, judges it, and what its absence means."""
    mangled = load.request.ignore_vermagic or load.request.ignore_modversions
    signed = load.file.endswith(MARKER) and len(load.file) > len(MARKER)
    if load.target.option("MODULE_SIG") is False:
        return StageResult(())
    if mangled or not signed:
        return StageResult(tuple(_unverified(load, "unsigned module", "it is not signed")))
    return StageResult(tuple(_signed(load)))


def _signed(load: Load) -> Iterator[Problem]:
    length = len(load.file) - len(MARKER)
    load.payload = length
    if length <= TRAILER.size:
        yield _corrupt("the trailer of its signature is cut off", "mod_verify_sig")
        return
    at = length - TRAILER.size
    algo, digest, kind, signer_len, key_id_len, size = TRAILER.unpack_from(load.file, at)
    pad = load.file[at + 5 : at + 8]
    if size >= length - TRAILER.size:
        yield _corrupt(
            f"its signature of {size} bytes is not in the {length - TRAILER.size} before the trailer",
            "mod_check_sig",
        )
        return
    if kind != PKEY_ID_PKCS7:
        line = "module: not signed with expected PKCS#7 message"
        yield from _unverified(
            load, "module with unsupported crypto", f"its signature is of type {kind}, and not PKCS#7", line
        )
        return
    if algo or digest or signer_len or key_id_len or any(pad):
        yield _corrupt(
            "the trailer of its signature has fields that must be zero",
            "mod_check_sig",
            "module: PKCS#7 signature info has unexpected non-zero params",
        )
        return
    load.payload = length - TRAILER.size - size
    yield from _verified(load, load.file[load.payload : load.payload + size])


def _verified(load: Load, message: bytes) -> Iterator[Problem]:
    """verify_pkcs7_signature, by the certificates that are known; whom the kernel's own modules name, it trusts."""
    target = load.target
    signer = signer_of(message)
    if signer is None:
        yield _corrupt("its signature is no PKCS#7 message", "verify_pkcs7_signature")
        return
    verdict = target.verify(load.body, message) if target.verify else Verdict.NO_CERTIFICATE
    if verdict is Verdict.NO_CERTIFICATE and signer in target.signers:
        verdict = Verdict.UNVERIFIED
    load.signature = verdict
    if verdict is Verdict.CHANGED:
        yield Problem(
            Cause.SIGNATURE_REJECTED,
            errno.EKEYREJECTED,
            "it was changed after it had been signed: that is fatal even where signatures are not enforced",
            _AGAIN,
            "mod_verify_sig",
        )
    elif verdict is Verdict.UNVERIFIED:
        yield Problem(
            Cause.SIGNATURE_REJECTED,
            None,
            "it has a signature that this kernel trusts; whether it was changed since could not be verified"
            " (that takes the certificate, from the kernel's image or by --cert, and the library cryptography)",
            "",
            "mod_verify_sig",
            certainty=Certainty.UNKNOWN,
        )
    elif verdict is Verdict.NO_CERTIFICATE and (target.signers or target.verify):
        yield from _unverified(
            load, "module with unavailable key", "its signer is not known to be one that this kernel trusts"
        )
    elif verdict is Verdict.NO_CERTIFICATE:
        load.doubt("whether this kernel trusts the signer: no signed module of its own was found to go by")


def _corrupt(words: str, source: str, line: str = "") -> Problem:
    return Problem(
        Cause.SIGNATURE_CORRUPT,
        errno.EBADMSG,
        f"{words}: that is fatal even where signatures are not enforced",
        f"{_AGAIN}, or cut the signature off",
        source,
        (line,) if line else (),
    )


def _unverified(load: Load, reason: str, words: str, line: str = "") -> Iterator[Problem]:
    """A module that is taken all the same, unless signatures are enforced or the kernel is locked down."""
    policy = load.target.policy
    enforced = policy.sig_enforce
    certainty = Certainty.CERTAIN
    if enforced is None:
        enforced = load.target.option("MODULE_SIG_FORCE")
        certainty = Certainty.LIKELY
    lines = (line,) if line else ()
    if enforced:
        yield Problem(
            Cause.UNSIGNED,
            errno.EKEYREJECTED,
            f"{words}, and this kernel enforces signatures",
            "sign it with a key that the kernel trusts (of one that is enrolled, --cert tells)",
            "module_sig_check",
            (*lines, f"Loading of {reason} is rejected"),
            certainty,
        )
    elif policy.lockdown in ("integrity", "confidentiality"):
        yield Problem(
            Cause.LOCKDOWN,
            errno.EPERM,
            f"{words}, and this kernel is locked down ({policy.lockdown})",
            "sign it with a key that the kernel trusts",
            "security_locked_down",
            (*lines, "Lockdown: *: unsigned module loading is restricted; see man kernel_lockdown.7"),
            certainty,
        )
    else:
        yield Problem(
            Cause.UNSIGNED,
            None,
            f"{words}: it is taken all the same, and taints the kernel (E)",
            "",
            "module_sig_check",
            lines,
            certainty,
        )
