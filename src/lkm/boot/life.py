# SPDX-License-Identifier: MIT
"""The life of a loadable module as the kernel leads it, step by step, with this module's own values."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from lkm.boot.fates import fate_of
from lkm.boot.initcall import Initcall
from lkm.boot.layout import Memory, plan_memory, total_of, type_of
from lkm.formats.elf import SHN_UNDEF, Machine, Symbol
from lkm.formats.module import THIS_MODULE, ModuleFile

__all__ = [
    "Entry", "Life", "Now", "SectionLife", "Step", "Transition", "life_of_file", "release_of", "transitions_of",
]  # fmt: skip


class Step(NamedTuple):
    """One step: what it is, the kernel's function that does it, and what it means for this module."""

    title: str
    function: str
    lines: tuple[str, ...]


class Entry(NamedTuple):
    """`init` or `exit`: the symbol that the kernel knows it by, the function that it is an alias of, and where."""

    symbol: str
    function: str
    section: str
    offset: int
    size: int


class SectionLife(NamedTuple):
    """A section: its size, the type of memory that it goes to ("" for none), and what becomes of it."""

    name: str
    size: int
    memory: str
    fate: str


class Transition(NamedTuple):
    """A state that can follow, what leads there, and what stands against it now ("" for nothing)."""

    state: str
    by: str
    obstacle: str = ""


class Now(NamedTuple):
    """How it stands on the machine: `state` is "" where it is not loaded. `init_result` is what its init returned
    in this boot, where messages tell it, and `told_by` is which. `refcnt` is on lsmod's scale, 0 if unused."""

    state: str = ""
    refcnt: Optional[int] = None
    holders: tuple[str, ...] = ()
    core_size: Optional[int] = None
    init_result: Optional[int] = None
    init_usecs: Optional[int] = None
    init_at: Optional[float] = None
    told_by: str = ""
    note: str = ""
    """Why the kernel's messages cannot be read, or what of them is lost; "" for nothing."""
    running: bool = True
    """False for another kernel than the running one: then nothing else is known."""


class Life(NamedTuple):
    """The whole. `kind` is `loadable` or `built-in`; of a built-in one only name, release, `initcalls` and
    `steps` are filled, and transitions are none."""

    name: str
    kind: str
    release: str
    path: str
    now: Now
    init: Optional[Entry]
    exit: Optional[Entry]
    memory: tuple[Memory, ...]
    sections: tuple[SectionLife, ...]
    initcalls: tuple[Initcall, ...]
    steps: tuple[Step, ...]
    transitions: tuple[Transition, ...]


def release_of(text: str) -> tuple[int, int]:
    """`6.1.0-56-amd64` as (6, 1); (0, 0) for what is no release."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def life_of_file(
    module: ModuleFile, path: str, now: Now, *, kallsyms_all: bool = True, asked: tuple[str, ...] = ()
) -> Life:
    """The life of the module in a file; `asked` are lines about what modprobe does before."""
    release = release_of(module.release)
    memory = plan_memory(module.elf, release, kallsyms_all=kallsyms_all)
    init, leave = _entry(module, "init_module"), _entry(module, "cleanup_module")
    sections = tuple(
        SectionLife(section.name, section.size, type_of(section, release), fate_of(section.name))
        for section in module.elf.sections[1:]
        if section.size
    )
    steps = (
        Step("it is asked for", "modprobe, finit_module(2)", asked or ("by its file: insmod, lkm load",)),
        Step("the file is checked", _since(release, "module_sig_check, check_modinfo"), _checks(module)),
        Step("memory is laid out", _since(release, "layout_and_allocate"), _memory_lines(memory, release)),
        Step("symbols are resolved", "simplify_symbols", _symbol_lines(module)),
        Step("relocations are applied", "apply_relocations", (_relocation_line(module),)),
        Step("special sections are used", "find_module_sections, post_relocation", _special_lines(sections)),
        Step("state coming", "complete_formation, prepare_coming_module", _coming_lines(module)),
        Step("its init is called", "do_init_module, do_one_initcall", _init_lines(init, now)),
        Step("state live", "do_init_module", _live_lines(memory, now)),
        Step("it is removed", "delete_module(2)", _exit_lines(init, leave, memory)),
    )
    return Life(
        module.name, "loadable", module.release, path, now, init, leave, memory, sections, (), steps,
        transitions_of(now, has_init=init is not None, has_exit=leave is not None),
    )  # fmt: skip


def _since(release: tuple[int, int], functions: str) -> str:
    """With the file that they are in: kernel/module.c was split in 5.19."""
    return f"{functions} ({'kernel/module.c' if release < (5, 19) else 'kernel/module/main.c'})"


def _entry(module: ModuleFile, name: str) -> Optional[Entry]:
    """init_module or cleanup_module, and the function of the source that it is an alias of."""
    symbols = module.elf.symbols
    found = next((each for each in symbols if each.name == name and each.shndx != SHN_UNDEF), None)
    if found is None or found.shndx >= len(module.elf.sections):
        return None
    own = [each for each in symbols if _is_same_place(each, found) and each.name != name]
    function = next((each.name for each in own if not each.name.startswith("__pfx_")), name)
    section = module.elf.sections[found.shndx].name
    return Entry(name, function, section, found.value, found.size)


def _is_same_place(one: Symbol, other: Symbol) -> bool:
    return (
        (one.shndx, one.value) == (other.shndx, other.value)
        and one.type == other.type
        and bool(one.name)
        and one.name[0] not in ".$"
    )


def _checks(module: ModuleFile) -> tuple[str, ...]:
    signed = (
        "not signed: it taints the kernel (E)" if module.signature is None else "signed, appended to the file"
    )
    versions = "no checksums of symbols"
    if module.versions is not None:
        versions = f"{len(module.versions)} symbols have a checksum to compare (MODVERSIONS)"
    licence = module.modinfo.get("license") or "none, which taints the kernel (P)"
    tree = "built with the kernel" if module.intree else "out of tree: it taints the kernel (O)"
    return (
        f"ELF for {_machine(module.machine)}, {len(module.elf.sections) - 1} sections",
        signed,
        f"vermagic: {module.vermagic.strip() or 'none'}",
        versions,
        f"licence: {licence}; {tree}",
    )


def _machine(number: int) -> str:
    try:
        return Machine(number).name.lower()
    except ValueError:
        return f"machine {number}"


def _memory_lines(memory: tuple[Memory, ...], release: tuple[int, int]) -> tuple[str, ...]:
    how = "one allocation for each type" if release >= (6, 4) else "two allocations, core and init, in parts"
    lines = [
        f"{how}: {total_of(memory, init=False)} bytes stay, {total_of(memory, init=True)} are for init alone"
    ]
    lines += [f"{each.type}: {each.used} bytes in {each.size}: {' '.join(each.sections)}" for each in memory]
    return tuple(lines)


def _symbol_lines(module: ModuleFile) -> tuple[str, ...]:
    depends = ", ".join(module.depends)
    lines = [
        f"{len(module.imports)} symbols are looked up, in the kernel" + (f", {depends}" if depends else "")
    ]
    if depends:
        lines.append(f"{depends}: held by what it takes (ref_module), and cannot go before it")
    if module.exports:
        lines.append(f"{len(module.exports)} symbols of its own are for others")
    return tuple(lines)


def _relocation_line(module: ModuleFile) -> str:
    count = sum(len(module.elf.relocations(section)) for section in module.elf.sections if section.flags & 2)
    return f"{count} places get an address"


def _special_lines(sections: tuple[SectionLife, ...]) -> tuple[str, ...]:
    plain = {".text", ".data", ".bss", ".rodata", ".init.text", ".init.data", ".exit.text", THIS_MODULE}
    return tuple(
        f"{each.name} ({each.size} bytes): {each.fate}"
        for each in sections
        if each.memory and each.fate and each.name not in plain
    )


def _coming_lines(module: ModuleFile) -> tuple[str, ...]:
    values = (*module.modinfo.get_all("parmtype"), *module.modinfo.get_all("parm"))
    names = dict.fromkeys(value.split(":")[0] for value in values)
    parameters = f"parameters are set (parse_args): {', '.join(names)}" if names else "it has no parameters"
    return (
        "its memory is protected, it is on the list of modules, and /proc/modules says Loading",
        "those who want to know are told: ftrace, live patches, dynamic debug, tracepoints, BTF",
        parameters,
        f"/sys/module/{module.name} is made (mod_sysfs_setup)",
        "its refcnt, as lsmod shows it, is 1 until init has returned",
    )


def _init_lines(init: Optional[Entry], now: Now) -> tuple[str, ...]:
    if init is None:
        return ("it has none: it only gives symbols to others",)
    lines = [
        f"{init.function}, {init.size} bytes at {init.section}+{init.offset:#x}",
        f"module_init({init.function}) made {init.symbol} an alias of it, which modpost put into {THIS_MODULE}",
        "0: it goes live; an error: it goes, and the loader gets that; more than 0: live, with a warning",
    ]
    if now.init_result is not None:
        took = "" if now.init_usecs is None else f" after {now.init_usecs} µs, called at {now.init_at:.6f} s"
        lines.append(f"here it returned {now.init_result}{took} ({now.told_by})")
    elif now.state == "live":
        lines.append("here it returned no error, for it is live: 0, or with a warning more")
        lines += [f"what it returned is not known: {now.note}"] if now.note else []
    elif now.state == "coming":
        lines.append("here it has not returned: it runs, or it died (lkm why tells)")
    return tuple(lines)


def _live_lines(memory: tuple[Memory, ...], now: Now) -> tuple[str, ...]:
    freed = total_of(memory, init=True)
    lines = [f"its init memory is freed: {freed} bytes" if freed else "it has no init memory to free"]
    if now.core_size is not None:
        lines.append(
            f"here it takes {now.core_size} bytes (coresize); by its file {total_of(memory, init=False)}"
        )
    return tuple(lines)


def _exit_lines(init: Optional[Entry], leave: Optional[Entry], memory: tuple[Memory, ...]) -> tuple[str, ...]:
    if leave is None and init is not None:
        return ("it has no exit: it can never be removed ([permanent])",)
    called = "nothing is called: it has neither init nor exit"
    if leave is not None:
        called = f"{leave.function} is called, {leave.size} bytes at {leave.section}+{leave.offset:#x}"
    return (
        "its refcnt must be 0, as lsmod shows it (the kernel counts its own 1 on top); then the state is going",
        called,
        f"/sys/module loses it, grace periods pass, {total_of(memory, init=False)} bytes are freed (free_module)",
    )


def transitions_of(now: Now, *, has_init: bool, has_exit: bool) -> tuple[Transition, ...]:
    """What can follow the state that it is in."""
    if not now.running:
        return ()
    if not now.state:
        return (Transition("unformed, then coming", "init_module(2), finit_module(2)"),)
    if now.state == "coming":
        return (
            Transition("live", "its init returns 0"),
            Transition("going", "its init returns an error"),
        )
    if now.state == "going":
        return (Transition("gone", "its exit returns, and the last who looks at it has finished"),)
    obstacle = ""
    if has_init and not has_exit:
        obstacle = "it has no exit"
    elif now.holders:
        obstacle = f"used by {', '.join(now.holders)}"
    elif now.refcnt:
        obstacle = f"its refcnt is {now.refcnt}"
    return (Transition("going", "delete_module(2)", obstacle),)
