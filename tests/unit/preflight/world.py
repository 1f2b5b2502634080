# SPDX-License-Identifier: MIT
"""A kernel and modules for it, made up: what the checks look at, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lkm.formats.elf import R_AARCH64_ABS64, R_X86_64_64, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, Machine
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.modinfo import ModInfo, render_modinfo
from lkm.formats.modversions import Version, render_versions
from lkm.names import NAME_OFFSET
from lkm.preflight.kernel import KernelExport, StructModule, Target
from lkm.preflight.kernel import Machine as MachinePolicy

SIZE = 896
VERMAGIC = "SMP preempt mod_unload modversions "
CRCS = {"module_layout": 0x11111111, "printk": 0x22222222, "gpl_function": 0x33333333, "spaced": 0x44444444}


class Exports:
    """`Exports` of a dict."""

    def __init__(self, *rows: KernelExport) -> None:
        self.rows = {row.name: row for row in rows}

    def find(self, name: str) -> KernelExport | None:
        return self.rows.get(name)


EXPORTS = Exports(
    KernelExport("module_layout", False, CRCS["module_layout"]),
    KernelExport("printk", False, CRCS["printk"]),
    KernelExport("gpl_function", True, CRCS["gpl_function"]),
    KernelExport("spaced", True, CRCS["spaced"], "SPACE"),
    KernelExport("of_module", False, 0x55555555, "", "provider"),
)


def target(release: str = "6.1.0-1-amd64", **changes: Any) -> Target:
    """A kernel of that release, with MODVERSIONS, that root loads modules into."""
    made = Target(
        release=release,
        machine=Machine.X86_64,
        vermagic=f"{release} {VERMAGIC}",
        struct_module=StructModule(SIZE, 312, 848),
        config={"CONFIG_MODVERSIONS": "y", "CONFIG_MODULE_SIG": "y", "CONFIG_STRICT_MODULE_RWX": "y",
                "CONFIG_LIVEPATCH": "y", "CONFIG_MODULE_FORCE_LOAD": "y", "CONFIG_DEBUG_INFO_BTF_MODULES": "y"},
        exports=EXPORTS,
        policy=MachinePolicy(True, False, "none", False, ()),
    )  # fmt: skip
    return made._replace(**changes)


def module(
    name: str = "sound",
    *,
    release: str = "6.1.0-1-amd64",
    info: Mapping[str, str] = {},
    imports: tuple[str, ...] = ("printk",),
    crcs: Mapping[str, int] = CRCS,
    size: int = SIZE,
    init: int = 312,
    exit_function: bool = False,
    extra: tuple[NewSection, ...] = (),
    symbols: tuple[NewSymbol, ...] = (),
    machine: int = Machine.X86_64,
) -> bytes:
    """A module file as kbuild makes it, in what counts."""
    struct = bytearray(size)
    struct[NAME_OFFSET : NAME_OFFSET + len(name)] = name.encode()
    entries = {"license": "GPL", "name": name, "vermagic": f"{release} {VERMAGIC}", **info}
    versions = [Version(each, crcs[each]) for each in ("module_layout", *imports) if each in crcs]
    pointer = R_X86_64_64 if machine == Machine.X86_64 else R_AARCH64_ABS64
    relocations = [NewRelocation(init, pointer, "init_module")]
    if exit_function:
        relocations.append(NewRelocation(848, pointer, "cleanup_module"))
    sections = [
        NewSection(".modinfo", render_modinfo(ModInfo(tuple(entries.items()))), flags=SHF_ALLOC),
        NewSection("__versions", render_versions(versions), flags=SHF_ALLOC, align=32),
        NewSection(".text", b"\xf3\x0f\x1e\xfa\xc3" + bytes(11), flags=SHF_ALLOC | SHF_EXECINSTR, align=16),
        NewSection(
            ".gnu.linkonce.this_module", bytes(struct), flags=SHF_ALLOC | SHF_WRITE, align=64,
            relocations=relocations,
        ),
        *extra,
    ]  # fmt: skip
    own = [NewSymbol("init_module", ".text"), NewSymbol("cleanup_module", ".text")]
    made = [*own, *(NewSymbol(each) for each in imports), *symbols]
    return build_relocatable(machine, sections, made)
