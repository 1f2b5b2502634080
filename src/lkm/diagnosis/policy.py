# SPDX-License-Identifier: MIT
"""The finding `policy`: what the machine forbids, whoever asks. It is respected, and never evaded."""

from __future__ import annotations

from lkm.diagnosis.findings import Finding, FindingCode
from lkm.system.snapshot import Policy

__all__ = ["edit_policy_findings", "removal_policy_findings"]

OWN_POLICY = "that is this machine's policy; change it there, or restart when you can"


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
    """What forbids the helper, which is an unsigned module that comes from memory."""
    rules = (
        (
            policy.lockdown not in ("none", ""),
            f"the kernel is locked down ({policy.lockdown}): it takes no unsigned module, so nothing can be edited",
            "/sys/kernel/security/lockdown",
        ),
        (
            policy.sig_enforce,
            "the kernel takes signed modules only (module.sig_enforce), so nothing can be edited",
            "/sys/module/module/parameters/sig_enforce: Y",
        ),
        (
            policy.ima_appraises_modules,
            "IMA appraises module files, and a helper is none, so nothing can be edited",
            "/sys/kernel/security/ima/policy",
        ),
        (
            policy.loadpin,
            "LoadPin takes modules from one file system only, so nothing can be edited",
            "/proc/sys/kernel/loadpin",
        ),
    )
    return [_finding(summary, evidence, OWN_POLICY) for holds, summary, evidence in rules if holds]


def _finding(summary: str, evidence: str, remedy: str) -> Finding:
    return Finding(FindingCode.POLICY, summary, evidence=(evidence,), remedy=remedy)
