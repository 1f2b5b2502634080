# SPDX-License-Identifier: MIT
"""The finding `policy`: what the machine forbids, whoever asks. It is respected, and never evaded."""

from __future__ import annotations

from typing import Optional

from lkm.diagnosis.findings import Finding, FindingCode
from lkm.formats.keys import SigningKey
from lkm.system.snapshot import Policy

__all__ = ["edit_policy_findings", "removal_policy_findings"]

OWN_POLICY = "that is this machine's policy; change it there, or restart when you can"
WITH_KEY = (
    "if you have a key that this kernel trusts: the same command with --sign-key KEY --sign-cert CERT; otherwise "
    + OWN_POLICY
)
ENROL = "sign with a key that it has, or enrol this certificate (mokutil --import) and restart"


def removal_policy_findings(policy: Policy) -> list[Finding]:
    """What forbids every removal."""
    rules = (
        (
            policy.module_unload is False,
            "this kernel cannot unload modules",
            "CONFIG_MODULE_UNLOAD is off",
            "restart without the module",
        ),
        (
            policy.modules_disabled,
            "loading and unloading is disabled until the next boot",
            "/proc/sys/kernel/modules_disabled: 1",
            "it cannot be set back; restart",
        ),
    )
    return [_finding(summary, evidence, remedy) for holds, summary, evidence, remedy in rules if holds]


def edit_policy_findings(policy: Policy) -> list[Finding]:
    """What forbids the helper, which is a module that comes from memory, signed only where there is a key."""
    signed = policy.signer is not None
    rules = (
        *_signature_rules(policy),
        (
            # ima_load_data (6.1): a module without a file is taken where signatures are enforced
            policy.ima_appraises_modules and not (signed and policy.sig_enforce),
            "IMA appraises module files, and a helper is none, so nothing can be edited",
            "/sys/kernel/security/ima/policy",
            OWN_POLICY,
        ),
        (
            policy.loadpin,
            "LoadPin takes modules from one file system only, so nothing can be edited",
            "/proc/sys/kernel/loadpin",
            OWN_POLICY,
        ),
    )
    return [_finding(summary, evidence, remedy) for holds, summary, evidence, remedy in rules if holds]


def _signature_rules(policy: Policy) -> list[tuple[Optional[bool], str, str, str]]:
    """Lockdown and enforced signatures; a helper that the kernel will verify passes, but for confidentiality."""
    signer = policy.signer
    locked = policy.lockdown not in ("none", "")
    where = "/sys/kernel/security/lockdown" if locked else "/sys/module/module/parameters/sig_enforce: Y"
    unknown = signer is not None and signer.keyrings == ()
    return [
        (
            policy.lockdown == "confidentiality",
            "the kernel is locked down (confidentiality): it lets nobody read its memory, so nothing can be edited",
            where,
            OWN_POLICY,
        ),
        (
            policy.lockdown == "integrity" and signer is None,
            "the kernel is locked down (integrity): it takes no unsigned module, so nothing can be edited",
            where,
            WITH_KEY,
        ),
        (
            policy.sig_enforce and not locked and signer is None,
            "the kernel takes signed modules only (module.sig_enforce), so nothing can be edited",
            where,
            WITH_KEY,
        ),
        (
            unknown and (locked or policy.sig_enforce),
            f"the kernel takes signed modules only, and does not have the key of {_shown(signer)}",
            f"{where}; the key is in none of the kernel's keyrings for modules (/proc/keys)",
            ENROL,
        ),
    ]


def _shown(signer: Optional[SigningKey]) -> str:
    return f"{signer.subject} (id {signer.id})" if signer else ""


def _finding(summary: str, evidence: str, remedy: str) -> Finding:
    return Finding(FindingCode.POLICY, summary, evidence=(evidence,), remedy=remedy)
