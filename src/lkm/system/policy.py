# SPDX-License-Identifier: MIT
"""What the machine allows: privilege, module policy, the running kernel's configuration."""

from __future__ import annotations

import os
from typing import Optional

from lkm.root import Root
from lkm.system.config import read_config
from lkm.system.files import list_directory, read_number, read_text
from lkm.system.module_list import has_loadable_modules
from lkm.system.snapshot import Policy

__all__ = ["read_console_loglevel", "read_policy"]

_CAP_SYS_MODULE = 16  # include/uapi/linux/capability.h


def read_policy(root: Root) -> Policy:
    """Read everything that can forbid a load or a removal; what cannot be read is None."""
    config = read_config(root)
    euid, capable = _privilege(root)
    return Policy(
        loadable=has_loadable_modules(root),
        euid=euid,
        cap_sys_module=capable,
        modules_disabled=_flag(root, "/proc/sys/kernel/modules_disabled"),
        module_unload=_module_unload(root, config),
        force_unload=_option(config, "CONFIG_MODULE_FORCE_UNLOAD"),
        lockdown=_lockdown(root),
        sig_enforce=_flag(root, "/sys/module/module/parameters/sig_enforce"),
        cfi=any(config.get(name) == "y" for name in ("CONFIG_CFI_CLANG", "CONFIG_CFI")) if config else None,
        kptr_restrict=_number(root, "/proc/sys/kernel/kptr_restrict"),
        ima_appraises_modules=_ima_appraises(root, config),
        loadpin=_loadpin(root),
        selinux_enforcing=_flag(root, "/sys/fs/selinux/enforce"),
        panic_on_oops=_flag(root, "/proc/sys/kernel/panic_on_oops"),
        panic_on_warn=_flag(root, "/proc/sys/kernel/panic_on_warn"),
        console_loglevel=read_console_loglevel(root),
    )


def read_console_loglevel(root: Root) -> Optional[int]:
    """The level below which messages go to the console; None if it cannot be read."""
    words = (read_text(root.join("/proc/sys/kernel/printk")) or "").split()
    return int(words[0]) if words and words[0].isdigit() else None


def _option(config: dict[str, str], name: str) -> Optional[bool]:
    return config.get(name) == "y" if config else None


def _number(root: Root, path: str) -> Optional[int]:
    return read_number(root.join(path))


def _flag(root: Root, path: str) -> Optional[bool]:
    """A file that holds 0 or 1, N or Y."""
    text = read_text(root.join(path))
    return {"0": False, "N": False, "1": True, "Y": True}.get(text or "")


def _privilege(root: Root) -> tuple[int, Optional[bool]]:
    """The effective user, and whether it has CAP_SYS_MODULE for this machine (/proc/self/status)."""
    fields = {}
    for line in (read_text(root.join("/proc/self/status")) or "").splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    try:
        capable = bool(int(fields["CapEff"][0], 16) >> _CAP_SYS_MODULE & 1)
        return int(fields["Uid"][1]), capable and not _in_user_namespace(root)
    except (KeyError, IndexError, ValueError):
        return os.geteuid(), None


def _in_user_namespace(root: Root) -> bool:
    """Whether this is not the first user namespace: there, capabilities do not reach modules.

    Only the first one maps all ids to themselves; one that does so too would be taken for it.
    """
    words = (read_text(root.join("/proc/self/uid_map")) or "").split()
    return bool(words) and words != ["0", "0", "4294967295"]


def _module_unload(root: Root, config: dict[str, str]) -> Optional[bool]:
    """CONFIG_MODULE_UNLOAD; with it, and only with it, every loaded module has a `refcnt` in sysfs."""
    known = _option(config, "CONFIG_MODULE_UNLOAD")
    if known is not None:
        return known
    for name in list_directory(root.join("/sys/module")):
        base = root.join(f"/sys/module/{name}")
        if os.path.exists(f"{base}/initstate"):
            return os.path.exists(f"{base}/refcnt")
    return None


def _lockdown(root: Root) -> str:
    """The word in brackets of `none [integrity] confidentiality`."""
    text = read_text(root.join("/sys/kernel/security/lockdown")) or ""
    return text.partition("[")[2].partition("]")[0] or "none"


def _loadpin(root: Root) -> Optional[bool]:
    """Whether LoadPin enforces: `enforce` since 4.20, `enabled` before."""
    found = _flag(root, "/proc/sys/kernel/loadpin/enforce")
    return _flag(root, "/proc/sys/kernel/loadpin/enabled") if found is None else found


def _ima_appraises(root: Root, config: dict[str, str]) -> Optional[bool]:
    """Whether IMA's policy appraises modules: then init_module(2) needs enforced signatures.

    Source: security/integrity/ima/ima_policy.c and ima_load_data, 6.1. The policy is readable only with
    CONFIG_IMA_READ_POLICY. Otherwise the command line and the configuration tell of the built-in policies;
    one loaded at run time is possible only while its file is still there to be written to.
    """
    if _option(config, "CONFIG_IMA_APPRAISE") is False:
        return False
    policy = read_text(root.join("/sys/kernel/security/ima/policy"))
    if policy is not None:
        return any(_appraises_modules(line.split()) for line in policy.splitlines())
    if _option(config, "CONFIG_IMA_APPRAISE_REQUIRE_MODULE_SIGS"):
        return True
    words = (read_text(root.join("/proc/cmdline")) or "").split()
    built_in = [name for word in words if word.startswith("ima_policy=") for name in word[11:].split("|")]
    if "ima_appraise=off" not in words and ({"secure_boot", "appraise_tcb"} & set(built_in)):
        return True
    replaceable = _option(config, "CONFIG_IMA_WRITE_POLICY")
    if replaceable is False and os.path.exists(root.join("/sys/kernel/security/ima/policy")):
        return False  # the file goes when a policy is loaded (ima_release_policy)
    return None


def _appraises_modules(words: list[str]) -> bool:
    """One rule: `appraise func=MODULE_CHECK appraise_type=imasig`; without `func=` it is for every one."""
    functions = [word[5:] for word in words if word.startswith("func=")]
    return words[:1] == ["appraise"] and functions in ([], ["MODULE_CHECK"])
