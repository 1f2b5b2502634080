# SPDX-License-Identifier: MIT
"""What the machine allows, from trees that have it, hide it, or do not know it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from lkm.system.config import read_config
from lkm.system.policy import read_policy
from lkm.system.snapshot import Policy
from tests.unit.system.trees import Tree

STATUS = "Name:\tlkm\nUid:\t1000\t{euid}\t0\t0\nCapEff:\t{caps}\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(str(tmp_path))


def test_nothing_can_be_read(tree: Tree) -> None:
    found = read_policy(tree.root)
    assert found == Policy(euid=os.geteuid())


@pytest.mark.parametrize(
    ("caps", "capable"), [("000001ffffffffff", True), ("0000000000010000", True), ("00000000fffeffff", False)]
)
def test_privilege(tree: Tree, caps: str, capable: bool) -> None:
    tree.write("/proc/self/status", STATUS.format(euid=42, caps=caps))
    found = read_policy(tree.root)
    assert (found.euid, found.cap_sys_module, found.loadable) == (42, capable, False)


@pytest.mark.parametrize(
    ("uid_map", "capable"), [("         0          0 4294967295\n", True), ("0 100000 65536\n", False)]
)
def test_capability_in_a_user_namespace_does_not_reach_modules(
    tree: Tree, uid_map: str, capable: bool
) -> None:
    tree.write("/proc/self/status", STATUS.format(euid=0, caps="000001ffffffffff"))
    tree.write("/proc/self/uid_map", uid_map)
    assert read_policy(tree.root).cap_sys_module is capable


def test_switches(tree: Tree) -> None:
    tree.write("/proc/modules", "")
    for name, value in (
        ("modules_disabled", "1"), ("kptr_restrict", "2"), ("panic_on_oops", "1"), ("panic_on_warn", "0"),
        ("loadpin/enforce", "1"), ("printk", "4\t4\t1\t7"),
    ):  # fmt: skip
        tree.write(f"/proc/sys/kernel/{name}", value + "\n")
    tree.write("/sys/module/module/parameters/sig_enforce", "Y\n")
    tree.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    tree.write("/sys/fs/selinux/enforce", "1")
    found = read_policy(tree.root)
    assert found.loadable
    assert found.modules_disabled
    assert found.kptr_restrict == 2
    assert (found.panic_on_oops, found.panic_on_warn) == (True, False)
    assert found.loadpin
    assert found.sig_enforce
    assert found.lockdown == "integrity"
    assert found.selinux_enforcing
    assert found.console_loglevel == 4


def test_old_name_of_loadpin(tree: Tree) -> None:
    tree.write("/proc/sys/kernel/loadpin/enabled", "0\n")
    assert read_policy(tree.root).loadpin is False


@pytest.mark.parametrize(
    "path",
    ["/boot/config-6.1.0-test", "/lib/modules/6.1.0-test/config", "/lib/modules/6.1.0-test/build/.config"],
)
def test_config_places(tree: Tree, path: str) -> None:
    tree.write(path, "# CONFIG_MODULE_FORCE_UNLOAD is not set\nCONFIG_MODULE_UNLOAD=y\n")
    found = read_policy(tree.root)
    assert (found.module_unload, found.force_unload) == (True, False)


def test_config_of_the_kernel_itself(tree: Tree) -> None:
    tree.write("/proc/config.gz", gzip.compress(b'CONFIG_MODULE_FORCE_UNLOAD=y\nCONFIG_LSM="lockdown"\n'))
    assert read_config(tree.root) == {"CONFIG_MODULE_FORCE_UNLOAD": "y", "CONFIG_LSM": "lockdown"}


def test_config_that_is_cut_off_is_none(tree: Tree) -> None:
    tree.write("/proc/config.gz", gzip.compress(b"CONFIG_MODULES=y\n" * 100)[:30])
    assert read_config(tree.root) == {}


def test_unload_is_inferred_from_refcnt(tree: Tree) -> None:
    base = tree.module("demo")
    assert read_policy(tree.root).module_unload is True
    os.unlink(tree.root.join(f"{base}/refcnt"))
    assert read_policy(tree.root).module_unload is False


@pytest.mark.parametrize(
    ("rules", "appraises"),
    [
        ("measure func=MODULE_CHECK\n", False),
        ("dont_measure fsmagic=0x9fa0\nappraise func=MODULE_CHECK appraise_type=imasig\n", True),
        ("appraise fowner=0\n", True),
        ("appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig\n", False),
        ("", False),
    ],
)
def test_ima_policy_that_can_be_read(tree: Tree, rules: str, appraises: bool) -> None:
    tree.write("/sys/kernel/security/ima/policy", rules)
    assert read_policy(tree.root).ima_appraises_modules is appraises


@pytest.mark.parametrize(
    ("config", "command_line", "appraises"),
    [
        ("CONFIG_MODULES=y\n", "", False),  # no CONFIG_IMA_APPRAISE
        ("CONFIG_IMA_APPRAISE=y\n", "quiet", False),  # the file is there: no policy was loaded
        ("CONFIG_IMA_APPRAISE=y\nCONFIG_IMA_WRITE_POLICY=y\n", "quiet", None),
        ("CONFIG_IMA_APPRAISE=y\n", "ima_policy=tcb|secure_boot", True),
        ("CONFIG_IMA_APPRAISE=y\n", "ima_policy=secure_boot ima_appraise=off", False),
        ("CONFIG_IMA_APPRAISE=y\nCONFIG_IMA_APPRAISE_REQUIRE_MODULE_SIGS=y\n", "", True),
        ("", "quiet", None),
    ],
)
def test_ima_policy_that_cannot_be_read(
    tree: Tree, config: str, command_line: str, appraises: bool | None
) -> None:
    tree.directory("/sys/kernel/security/ima/policy")  # to open it for reading fails, even for root
    tree.write("/boot/config-6.1.0-test", config)
    tree.write("/proc/cmdline", command_line + "\n")
    assert read_policy(tree.root).ima_appraises_modules is appraises
