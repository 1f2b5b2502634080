# SPDX-License-Identifier: MIT
"""The architecture's sections, and the name in sysfs.

Sources: module_frob_arch_sections and module_init_ftrace_plt (arch/arm64/kernel/module*.c), mod_sysfs_init
(kernel/module/sysfs.c): 5.10 to 7.3.
"""

from __future__ import annotations

import errno

from lkm.formats.elf import Machine
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_architecture_sections", "check_sysfs_name", "check_trampolines"]

_LINK = "link it with the kernel's module.lds (kbuild does)"


def check_architecture_sections(load: Load) -> StageResult:
    """module_frob_arch_sections of arm64: sections that the linker script of modules makes."""
    if load.target.machine != Machine.AARCH64:
        return StageResult(())
    plts = load.target.option("ARM64_MODULE_PLTS") is not False or load.rules.early_checks
    if not plts or all(map(load.image.find_all, (".plt", ".init.plt"))):
        return StageResult(())
    return StageResult((Problem(
        Cause.ARCHITECTURE_SECTIONS, errno.ENOEXEC, "it has no .plt or no .init.plt", _LINK,
        "module_frob_arch_sections", (f"{load.struct_name}: module PLT section(s) missing",), load.certainty,
    ),))  # fmt: skip


def check_trampolines(load: Load) -> StageResult:
    """module_init_ftrace_plt of arm64, called when all is relocated; it says nothing."""
    plts = load.target.option("ARM64_MODULE_PLTS") is not False or load.rules.early_checks
    if load.target.machine != Machine.AARCH64 or not plts or load.target.option("DYNAMIC_FTRACE") is False:
        return StageResult(())
    wanted = [".text.ftrace_trampoline"] + [".init.text.ftrace_trampoline"] * load.rules.init_trampoline
    missing = [name for name in wanted if not load.image.find_all(name)]
    if not missing:
        return StageResult(())
    return StageResult((Problem(
        Cause.ARCHITECTURE_SECTIONS, errno.ENOEXEC, f"it has no {' and no '.join(missing)}", _LINK,
        "module_init_ftrace_plt", (), load.certainty,
    ),))  # fmt: skip


def check_sysfs_name(load: Load) -> StageResult:
    """mod_sysfs_init: something of that name is in /sys/module, without being a loaded module."""
    name = load.struct_name
    if name not in load.target.sysfs_names:
        return StageResult(())
    return StageResult((Problem(
        Cause.NAME_TAKEN, errno.EINVAL, f"/sys/module/{name} is there: it is built in, or a load left it",
        f"if it is built in, nothing needs to be loaded; else lkm why {name}", "mod_sysfs_init",
        (f"{name}: module is already loaded",),
    ),))  # fmt: skip
