# SPDX-License-Identifier: MIT
"""What `lkm check` foretells, against what the kernel does: hundreds of modules, each made wrong in its own way.

The list is made from a seed, and a second one from a seed that is drawn at the run (it is in the output).
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from lkm.lab.vm import Guest
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Target
from lkm.preflight.rules import rules_for
from lkm.preflight.values import Cause
from tests.mutants.draw import Mutant, draw_mutants
from tests.mutants.editor import Editor
from tests.mutants.lab import (
    as_root,
    difference,
    fetch_modules,
    load_all,
    look,
    request_of,
    target_of,
    write_share,
)
from tests.mutants.mutations import FORBIDDEN, Scene

SEED = 20260101
MANY, FEW = 330, 200
"""Mutants of each seed: where kernels were asked for, and by default."""
WITHOUT_PRIVILEGE = """
import ctypes, os
handle = os.open("/share/unsigned.ko", os.O_RDONLY)
os.setuid(1000)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(ctypes.c_long(313), handle, b"", 0)
print(ctypes.get_errno())
"""

UNKNOWN = 0.05
"""At most this part of the mutants may be beyond telling."""

amd64 = pytest.mark.parametrize(
    "kernel", ["5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "7.2", "7.3"], indirect=True
)

NOT_HERE = {
    Cause.LIVEPATCH,  # Debian's kernels have CONFIG_LIVEPATCH
    Cause.IN_PROGRESS,  # takes a load that hangs: tests/unit/preflight
    Cause.NO_PRIVILEGE,  # these two: below
    Cause.LOCKDOWN,
    Cause.ARCHITECTURE_SECTIONS,  # arm64's: tests/vm/test_check_arm64.py
}
WITH_CRCS = {Cause.MODULE_LAYOUT, Cause.SYMBOL_VERSION}
"""Causes that there are with MODVERSIONS only, which Debian has until 6.12."""
LATER = {
    Cause.BTF: (7, 0),
    Cause.NAMESPACE: (5, 18),
    Cause.NAMESPACE_FORBIDDEN: (6, 16),
}
"""Causes that are none in older kernels: dma_buf_get had no namespace, BTF was taken as it came."""


@amd64
def test_what_is_foretold_is_what_the_kernel_does(
    kernel: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Errno and lines of every mutant, those of a machine with other policies, and every cause at least once."""
    chosen = pytestconfig.getoption("--kernels") or pytestconfig.getoption("--all-kernels")
    modules = fetch_modules(kernel)
    target = target_of(kernel, modules)._replace(policy=as_root())
    drawn = random.SystemRandom().randrange(1 << 32)
    print(f"seeds {SEED} and {drawn}")
    scene = Scene(target, "cordic", "cordic_calc_iq", "des_expand_key", "printk")
    mutants = []
    for letter, seed in (("a", SEED), ("b", drawn)):
        some = draw_mutants(seed, modules, scene, MANY if chosen else FEW)
        mutants += [mutant._replace(id=letter + mutant.id) for mutant in some]
    special = _special(modules, scene)
    write_share(str(tmp_path), [*mutants, *special], modules)
    with Guest.boot(kernel, share=str(tmp_path), append=f"module_blacklist={FORBIDDEN}") as guest:
        assert guest.run(["insmod", "/share/cordic.ko"]).returncode == 0
        causes = _compare(guest, target, mutants)
        causes += _with_other_policies(guest, target, special)
    missing = set(Cause) - {Cause(value) for value in causes} - NOT_HERE - _none_here(target)
    assert not missing, f"never foretold: {missing}"


def _none_here(target: Target) -> set[Cause]:
    numbers = tuple(map(int, target.release.split(".")[:2]))
    found = {cause for cause, since in LATER.items() if numbers < since}
    if not rules_for(target.release).symbol_index:
        found.add(Cause.SYMBOL_INDEX)
    if not target.option("MODVERSIONS") and not rules_for(target.release).flagstab:
        found.add(Cause.EXPORT_TABLES)
    return found if target.option("MODVERSIONS") else found | WITH_CRCS


def _compare(guest: Guest, target: Target, mutants: list[Mutant]) -> Counter[str]:
    """Loads them, compares, and gives the causes that were foretold."""
    loaded, names = look(guest)
    target = target._replace(loaded=loaded, sysfs_names=names)
    told = load_all(guest, mutants)
    causes: Counter[str] = Counter()
    wrong, unknown = [], 0
    for mutant in mutants:
        prediction = check_module(mutant.data, target, request_of(mutant))
        causes.update({problem.cause.value for problem in prediction.problems})
        if prediction.loads is None:
            unknown += 1
            continue
        found = difference(prediction, told[mutant.id])
        if found:
            wrong.append(f"{mutant.id} {mutant.parameters!r}: {found}")
    assert not wrong, f"{len(wrong)} of {len(mutants)}:\n" + "\n".join(wrong[:40])
    assert unknown <= UNKNOWN * len(mutants)
    return causes


def _special(modules: dict[str, bytes], scene: Scene) -> list[Mutant]:
    """A proprietary provider, one that uses it, one that is signed, and one that is not."""
    provider = Editor(modules[scene.loaded])
    provider.replace_info("license", "Proprietary")
    user = Editor(modules["dummy"])
    export = scene.target.exports.find(scene.exported) if scene.target.exports else None
    user.add_symbol(scene.exported)
    if export and export.crc is not None and user.has("__versions"):
        user.set_versions([*user.versions(), (scene.exported, export.crc)])
    return [
        Mutant("provider", provider.result()),
        Mutant("user", user.result()),
        Mutant("signed", modules["ts_bm"]),
        Mutant("unsigned", Editor(modules["ts_bm"]).result()),
    ]


def _with_other_policies(guest: Guest, target: Target, special: list[Mutant]) -> Counter[str]:
    """A proprietary provider, then signatures enforced, then locked down, then no modules at all."""
    _, user, signed, unsigned = special
    done = guest.run(["sh", "-c", "rmmod cordic && insmod /share/provider.ko"])
    assert done.returncode == 0, done.stderr
    causes = _compare(guest, target, [user])
    _set(guest, "1", "/sys/module/module/parameters/sig_enforce")
    enforced = target._replace(policy=as_root()._replace(sig_enforce=True))
    causes += _compare(guest, enforced, [signed, unsigned])
    _set(guest, "1", "/proc/sys/kernel/modules_disabled")
    causes += _compare(
        guest, target._replace(policy=as_root()._replace(modules_disabled=True)), [signed, unsigned]
    )
    return causes


def _set(guest: Guest, value: str, path: str) -> None:
    done = guest.run(["sh", "-c", f"echo {value} > {path}"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12", "7.3"], indirect=True)
def test_a_locked_down_kernel_and_a_caller_without_privilege(kernel: str, tmp_path: Path) -> None:
    """Both are foretold: what is unsigned is not taken, and nothing from who is not root."""
    modules = fetch_modules(kernel)
    target = target_of(kernel, modules)
    plain = Mutant("unsigned", Editor(modules["ts_bm"]).result())
    write_share(str(tmp_path), [plain], modules)
    with Guest.clone(kernel, share=str(tmp_path)) as guest:
        done = guest.run(["python3", "-c", WITHOUT_PRIVILEGE])
        assert done.stdout.split() == [b"1"], (done.stdout, done.stderr)
        user = target._replace(policy=as_root()._replace(cap_sys_module=False))
        prediction = check_module(plain.data, user)
        assert (prediction.errno, prediction.problems[0].cause) == (1, Cause.NO_PRIVILEGE)
        _set(guest, "integrity", "/sys/kernel/security/lockdown")
        locked = target._replace(policy=as_root()._replace(lockdown="integrity"))
        _compare(guest, locked, [plain])


@pytest.mark.parametrize("kernel", ["5.10", "6.1", "7.3"], indirect=True)
def test_the_command_sees_the_running_kernel(kernel: str, tmp_path: Path) -> None:
    """In the guest, from nothing but its files and memory, `lkm check` comes to the same answers.

    Whether a signed module was changed takes the certificate, which is in the image that the guest has not.
    """
    modules = fetch_modules(kernel)
    target = target_of(kernel, modules)
    scene = Scene(target, "cordic", "cordic_calc_iq", "des_expand_key", "printk")
    mutants = [
        m for m in draw_mutants(SEED, modules, scene, 0)[::5] if not (m.parameters or "changed-after" in m.id)
    ]
    write_share(str(tmp_path), mutants, modules)
    with Guest.clone(kernel, share=str(tmp_path)) as guest:
        told = load_all(guest, mutants)
        files = [f"/share/{mutant.id}.ko" for mutant in mutants]
        done = guest.run(["lkm", "check", "--json", *files], timeout=300)
    assert done.returncode == 1, done.stderr
    answers = {answer["path"]: answer["errno"] or 0 for answer in json.loads(done.stdout)["modules"]}
    assert answers == {f"/share/{mutant.id}.ko": told[mutant.id].errno for mutant in mutants}


@pytest.mark.parametrize("kernel", ["6.1"], indirect=True)
def test_a_load_that_failed_stands_beside_what_was_foretold(kernel: str, tmp_path: Path) -> None:
    """`lkm load` shows the errno that it foretells beside the kernel's, and every cause in words."""
    modules = fetch_modules(kernel)
    editor = Editor(modules["dummy"])
    editor.replace_info("license", "Proprietary")
    editor.add_symbol("nobody_has_it")
    write_share(str(tmp_path), [Mutant("wrong", editor.result())], modules)
    with Guest.clone(kernel, share=str(tmp_path)) as guest:
        done = guest.run(["lkm", "load", "/share/wrong.ko"], timeout=120)
        again = guest.run(["lkm", "load", "--json", "/share/wrong.ko"], timeout=120)
    text = done.stdout.decode()
    assert done.returncode == again.returncode == 1
    assert "foretold:   ENOENT (No such file or directory)" in text
    assert "the kernel: ENOENT (No such file or directory)\n" in text
    assert "nobody exports nobody_has_it" in text
    answer = json.loads(again.stdout)
    assert answer["predicted"]["errno"] == answer["errno"] == 2
    assert {p["cause"] for p in answer["predicted"]["problems"] if p["errno"]} == {
        "gpl-only",
        "symbol-missing",
    }
