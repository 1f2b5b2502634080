# SPDX-License-Identifier: MIT
"""The architecture's sections, BTF, and the name in sysfs.

Sources: module_frob_arch_sections and module_init_ftrace_plt (arch/arm64/kernel/module*.c), btf_module_notify and
btf_parse_hdr (kernel/bpf/btf.c), mod_sysfs_init (kernel/module/sysfs.c): 5.10 to 7.3.
"""

from __future__ import annotations

import errno
import struct

from lkm.formats.elf import Machine
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_architecture_sections", "check_btf", "check_sysfs_name", "check_trampolines"]

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


def check_btf(load: Load) -> StageResult:
    """btf_module_notify: fatal only without CONFIG_MODULE_ALLOW_BTF_MISMATCH (5.18; before, always told only)."""
    index = load.image.find_all(".BTF")
    enabled = load.target.option("DEBUG_INFO_BTF_MODULES")
    if not index or enabled is False:
        return StageResult(())
    row = load.image.sections[index[0]]
    data = load.image.content(row)
    if not row.size:
        return StageResult(())
    fault = _btf_fault(data)
    allowed = load.target.option("MODULE_ALLOW_BTF_MISMATCH")
    if fault is None:
        return StageResult(())
    text, number = fault
    fatal = allowed is False
    lines = (f"BPF: {text}", f"failed to validate module [{load.struct_name}] BTF: -{number}")
    words = f"its BTF is damaged ({text})"
    return StageResult((Problem(
        Cause.BTF, number if fatal else None, words if fatal else f"{words}: taken without it",
        "build it again, or strip .BTF", "btf_module_notify", lines if fatal else (), load.certainty,
    ),))  # fmt: skip


def _btf_fault(data: bytes) -> tuple[str, int] | None:
    """btf_parse_hdr: what it says, and the errno."""
    if len(data) < 8:
        return "hdr_len not found", errno.EINVAL
    magic, version, flags, length = struct.unpack_from("<HBBI", data)
    if len(data) < length:
        return "btf_header not found", errno.EINVAL
    if magic != 0xEB9F:
        return "Invalid magic", errno.EINVAL
    if version != 1:
        return "Unsupported version", 524  # ENOTSUPP, which user space has no name for
    if flags:
        return "Unsupported flags", 524
    return None


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
