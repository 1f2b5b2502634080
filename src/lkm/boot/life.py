# SPDX-License-Identifier: MIT
"""The life of a loadable module as the kernel leads it, step by step, with this module's own values.

The steps are those of `load_module` (kernel/module.c up to 5.18, kernel/module/main.c since), in its order; read in
6.1, 6.15 and 6.18; those of 5.10 are as those of 6.1.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from lkm.boot.fates import Stage, fate_of, stage_of
from lkm.boot.initcall import Initcall
from lkm.boot.layout import PAGE, PER_CPU, Memory, plan_memory, total_of, type_of
from lkm.formats.elf import SHN_UNDEF, Machine, Symbol
from lkm.formats.modinfo import is_gpl_compatible
from lkm.formats.module import THIS_MODULE, ModuleFile

__all__ = [
    "Entry", "Kernel", "Life", "Now", "SectionLife", "Step", "Transition", "life_of_file", "release_of",
    "transitions_of",
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
    init_blacklist: tuple[str, ...] = ()
    """The functions of `initcall_blacklist=` on the kernel's command line."""
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


class Kernel(NamedTuple):
    """What of the kernel decides about a module's memory: CONFIG_KALLSYMS_ALL, and the bytes of a page."""

    kallsyms_all: bool = True
    page: int = PAGE


_USUAL = Kernel()


def life_of_file(
    module: ModuleFile, path: str, now: Now, *, kernel: Kernel = _USUAL, asked: tuple[str, ...] = ()
) -> Life:
    """The life of the module in a file; `asked` are lines about what modprobe does before."""
    release = release_of(module.release)
    patch = is_livepatch(module)
    memory = plan_memory(
        module.elf, release, kallsyms_all=kernel.kallsyms_all, page=kernel.page, livepatch=patch
    )
    init, leave = _entry(module, "init_module"), _entry(module, "cleanup_module")
    sections = tuple(
        SectionLife(section.name, section.size, type_of(section, release), fate_of(section.name))
        for section in module.elf.sections[1:]
        if section.size
    )
    steps = (
        Step("it is asked for", "modprobe, finit_module(2)", asked or ("by its file: insmod, lkm load",)),
        Step("the file is checked", _checkers(release), _checks(module)),
        Step("memory is laid out", "layout_and_allocate", _memory_lines(memory, release)),
        Step("its name is taken", _name_takers(release), _name_lines(module, sections)),
        Step("its sections are found", "find_module_sections", _found_lines(sections)),
        Step("symbols are resolved", "simplify_symbols", _symbol_lines(module)),
        Step("relocations are applied", "apply_relocations", (_relocation_line(module),)),
        Step(
            "what needs addresses is done",
            "post_relocation, ftrace_module_init",
            _used(sections, Stage.FINISHED),
        ),
        Step(
            "state coming",
            "complete_formation, prepare_coming_module, parse_args, mod_sysfs_setup",
            _coming_lines(module, sections),
        ),
        Step("its init is called", "do_init_module, do_one_initcall", _init_lines(init, now)),
        Step("state live", "do_init_module", _live_lines(memory, now)),
        Step("it is removed", "delete_module(2), free_module", _exit_lines(init, leave, memory)),
    )
    return Life(
        module.name, "loadable", module.release, path, now, init, leave, memory, sections, (), steps,
        transitions_of(now, has_init=init is not None, has_exit=leave is not None),
    )  # fmt: skip


def is_livepatch(module: ModuleFile) -> bool:
    """Whether the kernel takes it for a live patch (`check_modinfo_livepatch`)."""
    return module.modinfo.has("livepatch")


def _checkers(release: tuple[int, int]) -> str:
    """early_mod_check (6.4) has the checks that load_module and layout_and_allocate had themselves."""
    if release >= (6, 4):
        return "module_sig_check, elf_validity_cache_copy, early_mod_check, kernel/module/main.c"
    where = "kernel/module.c" if release < (5, 19) else "kernel/module/main.c"
    return f"module_sig_check, setup_load_info, check_modstruct_version, check_modinfo, {where}"


def _name_takers(release: tuple[int, int]) -> str:
    """The taints were set by check_modinfo and load_module itself up to 6.3."""
    augment = "module_augment_kernel_taints, " if release >= (6, 4) else ""
    return f"add_unformed_module, {augment}percpu_modalloc, module_unload_init"


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
    signed = "not signed" if module.signature is None else "signed, appended to the file"
    versions = "no checksums of symbols"
    if module.versions is not None:
        versions = f"{len(module.versions)} symbols have a checksum to compare (MODVERSIONS)"
    return (
        f"ELF for {_machine(module.machine)}, {len(module.elf.sections) - 1} sections",
        signed,
        f"vermagic: {module.vermagic.strip() or 'none'}",
        versions,
        "module_blacklist= must not name it (EPERM)",
        *_taint_lines(module),
    )


def _taint_lines(module: ModuleFile) -> tuple[str, ...]:
    """`check_modinfo` (up to 6.3), `module_augment_kernel_taints` (6.4); a signature counts here if there is one."""
    licence = module.modinfo.get("license")
    lines = [f"licence: {licence or 'none'}; {'built with the kernel' if module.intree else 'out of tree'}"]
    marks = {
        "P: its licence is not compatible with the GPL": not is_gpl_compatible(licence or None),
        "O: it is out of tree": not module.intree,
        "C: it is of drivers/staging": module.modinfo.has("staging"),
        "K: it is a live patch": is_livepatch(module),
        "E: it is not signed (with CONFIG_MODULE_SIG)": module.signature is None,
    }
    taints = [text for text, holds in marks.items() if holds]
    return (*lines, *([f"it taints the kernel with {'; '.join(taints)}"] if taints else []))


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


def _name_lines(module: ModuleFile, sections: tuple[SectionLife, ...]) -> tuple[str, ...]:
    lines = [
        f"{module.name} goes on the list of modules, unformed: nobody sees it, and no other can have its name",
        "one of that name that is loading is waited for; EEXIST where one is live, else EBUSY",
    ]
    lines += [
        f"{each.name}: {each.size} bytes for each processor" for each in sections if each.name == PER_CPU
    ]
    return tuple(lines)


def _used(sections: tuple[SectionLife, ...], stage: Stage) -> tuple[str, ...]:
    """What the step does with its sections; those that are but copied are said with the memory."""
    return tuple(
        f"{each.name} ({each.size} bytes): {each.fate}"
        for each in sections
        if (each.memory or each.name == PER_CPU) and stage_of(each.name) is stage
    )


def _found_lines(sections: tuple[SectionLife, ...]) -> tuple[str, ...]:
    later = [each.name for each in sections if each.memory and stage_of(each.name) is Stage.COMING]
    lines = _used(sections, Stage.FOUND)
    lines += (f"used when it is coming: {', '.join(later)}",) if later else ()
    return lines or ("it has none that count",)


def _finished_lines(sections: tuple[SectionLife, ...]) -> tuple[str, ...]:
    symbols = "its symbols are there for /proc/kallsyms (add_kallsyms)"
    return (*_used(sections, Stage.FINISHED), symbols)


def _coming_lines(module: ModuleFile, sections: tuple[SectionLife, ...]) -> tuple[str, ...]:
    values = (*module.modinfo.get_all("parmtype"), *module.modinfo.get_all("parm"))
    names = dict.fromkeys(value.split(":")[0] for value in values)
    parameters = f"parameters are set (parse_args): {', '.join(names)}" if names else "it has no parameters"
    kept = "a live patch: its ELF headers and symbols are kept as they are (copy_module_elf)"
    return (
        "nobody else may export its symbols (verify_exported_symbols); its memory is protected",
        "from here on /proc/modules has it, as Loading; its refcnt, as lsmod shows it, is 1 until init has returned",
        "those who want to know are told: ftrace, live patches, and the notifiers of MODULE_STATE_COMING",
        *_used(sections, Stage.COMING),
        parameters,
        f"/sys/module/{module.name} is made (mod_sysfs_setup)",
        *([kept] if is_livepatch(module) else []),
    )


def _init_lines(init: Optional[Entry], now: Now) -> tuple[str, ...]:
    if init is None:
        return ("it has none: it only gives symbols to others",)
    lines = [
        f"{init.function}, {init.size} bytes at {init.section}+{init.offset:#x}",
        f"module_init({init.function}) made {init.symbol} an alias of it, which modpost put into {THIS_MODULE}",
        "0: it goes live; an error: it goes, and the loader gets that; more than 0: live, with a warning",
    ]
    if {init.function, init.symbol} & {*now.init_blacklist}:
        lines.append(
            "initcall_blacklist= on the kernel's command line names it: not called, and the load fails (EPERM)"
        )
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
