# SPDX-License-Identifier: MIT
"""Where the fields of the running kernel's `struct module` are, told by three witnesses that must agree.

1. The sibling (`lkm.system.siblings`): its `.gnu.linkonce.this_module` is a struct module, and the
   relocations of that section are where `init` and `exit` stand.
2. BTF, where the kernel has it.
3. Proofs: healthy live modules, read through kcore by this layout and compared with /sys/module.

Source: include/linux/module.h, 5.10 to 7.x: `state`, `list` and `name` come first, `source_list`,
`target_list`, `exit` and `refcnt` are consecutive (CONFIG_MODULE_UNLOAD); module_unload_init in
kernel/module/main.c: refcnt has base 1 (MODULE_REF_BASE).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from lkm.errors import LkmError
from lkm.names import NAME_SIZE
from lkm.root import Root
from lkm.system.files import read_number, read_text
from lkm.system.kallsyms import hidden_error
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.siblings import find_sibling
from lkm.system.snapshot import Layout, LoadedModule, ModuleState, Proof, RawModule, Sibling

__all__ = ["LayoutReading", "prove", "read_layout", "read_raw"]

_MAX_PROOFS = 8
_WITNESSED = ("size", "init", "exit", "refcnt", "state", "list", "name")
"""What the sibling and BTF both tell."""
_MAX_SIZE = 1 << 14


class LayoutReading(NamedTuple):
    """The layout and what it was read from; `error` says what is missing or wrong, and what to do."""

    layout: Optional[Layout]
    sibling: Optional[Sibling]
    error: str = ""


def read_layout(root: Root, memory: Optional[KernelMemory], modules: Iterable[LoadedModule]) -> LayoutReading:
    """The layout of struct module, compared and proved as far as this machine allows. Never raises.

    Without a sibling the layout is BTF's alone; without either there is none. `error` is also set where
    there is a layout but no sibling, or no address to prove it at.
    """
    loaded = tuple(modules)
    sibling, error = find_sibling(root, loaded)
    try:
        typed = layout_of_types(memory) if memory else None
    except LkmError as problem:
        typed = None
        if memory and memory.has_types:
            memory.note(f"struct module in BTF: {problem}")
    filed = layout_of_sibling(sibling) if sibling else None
    layout = _merge(filed, typed)
    if layout is None:
        return LayoutReading(None, sibling, error)
    if memory is None:
        return LayoutReading(layout, sibling, error)
    proofs = prove(root, memory, layout, loaded)
    if not proofs and not error:
        error = _no_proof(root, loaded)
    return LayoutReading(layout._replace(proofs=proofs), sibling, error)


def layout_of_sibling(sibling: Sibling) -> Layout:
    """The layout that a module file tells."""
    return Layout(
        size=sibling.size,
        init=sibling.init,
        exit=sibling.exit,
        refcnt=sibling.exit + 8,
        origin="sibling",
    )


def layout_of_types(memory: KernelMemory) -> Layout:
    """The layout that BTF tells. Raises `LkmError` without BTF and for CONFIG_MODULE_UNLOAD=n (no refcnt).

    num_gpl_syms is gone where exports have flags (7.x), num_syms has been there since 2.6.
    """

    def optional(member: str) -> Optional[int]:
        return memory.offset("module", member) if memory.has("module", member) else None

    return Layout(
        size=memory.sizeof("module"),
        init=memory.offset("module", "init"),
        exit=memory.offset("module", "exit"),
        refcnt=memory.offset("module", "refcnt"),
        origin="btf",
        num_syms=optional("num_syms"),
        num_gpl_syms=optional("num_gpl_syms"),
        kobject=optional("mkobj.kobj"),
        kobject_name=optional("mkobj.kobj.name"),
        sysfs=optional("mkobj.kobj.sd"),
        holders_dir=optional("holders_dir"),
        state=memory.offset("module", "state"),
        list=memory.offset("module", "list"),
        name=memory.offset("module", "name"),
        disagreement=_list_disagreement(memory),
    )


def _list_disagreement(memory: KernelMemory) -> str:
    """`Layout.source_list` is exit - 32: say where BTF has it elsewhere."""
    if not memory.has("module", "source_list"):
        return ""
    found, expected = memory.offset("module", "source_list"), memory.offset("module", "exit") - 32
    return "" if found == expected else f"source_list: {found} in BTF, {expected} expected (exit - 32)"


def _merge(filed: Optional[Layout], typed: Optional[Layout]) -> Optional[Layout]:
    """The layout of both witnesses, with the fields in which they differ. The sibling's values are kept:
    what is made of it must agree with it, and a layout with a disagreement is not for writing."""
    if filed is None or typed is None:
        return filed or typed
    differences = [
        f"{field}: {getattr(filed, field)} in the sibling, {getattr(typed, field)} in BTF"
        for field in _WITNESSED
        if getattr(filed, field) != getattr(typed, field)
    ]
    if typed.disagreement:
        differences.append(typed.disagreement)
    witness = {field: getattr(filed, field) for field in _WITNESSED}
    return typed._replace(origin="sibling and btf", disagreement="; ".join(differences), **witness)


def read_raw(memory: KernelMemory, layout: Layout, address: int) -> RawModule:
    """The fields of the struct module at `address`, in one read. Raises `KcoreError`.

    The name may be anything where the address is no module's: it is up to the caller to compare it.
    """
    size = layout.size if 0 < layout.size <= _MAX_SIZE else _MAX_SIZE
    data = memory.read(address, size)

    def number(offset: int, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(data[offset : offset + width], "little", signed=signed)

    def optional(offset: Optional[int], width: int = 4) -> Optional[int]:
        return None if offset is None else number(offset, width)

    name = data[layout.name : layout.name + NAME_SIZE].split(b"\0", 1)[0]
    return RawModule(
        name=name.decode("utf-8", "backslashreplace"),
        state=number(layout.state, 4),
        refcnt=number(layout.refcnt, 4, signed=True),
        init=number(layout.init, 8),
        exit=number(layout.exit, 8),
        num_syms=optional(layout.num_syms),
        num_gpl_syms=optional(layout.num_gpl_syms),
        kobject_name=_kobject_name(memory, optional(layout.kobject_name, 8)),
        sysfs=optional(layout.sysfs, 8),
        holders_dir=optional(layout.holders_dir, 8),
    )


def _kobject_name(memory: KernelMemory, pointer: Optional[int]) -> Optional[str]:
    """The name that a kobject points to; "" where it points nowhere, as before its setup and after its end."""
    return None if pointer is None else memory.text(pointer, "")


def prove(
    root: Root, memory: KernelMemory, layout: Layout, modules: Iterable[LoadedModule]
) -> tuple[Proof, ...]:
    """Up to 8 proofs, one a healthy live module whose address is known."""
    healthy = [m for m in modules if m.state is ModuleState.LIVE and m.address and m.in_sysfs]
    return tuple(_prove_one(root, memory, layout, module) for module in healthy[:_MAX_PROOFS])


def _prove_one(root: Root, memory: KernelMemory, layout: Layout, module: LoadedModule) -> Proof:
    """References come and go: what differs is read again, and only a difference that stays is one."""
    detail = ""
    for _ in range(3):
        shown = read_number(root.join(f"/sys/module/{module.name}/refcnt"))
        state = read_text(root.join(f"/sys/module/{module.name}/initstate"))
        try:
            raw = read_raw(memory, layout, module.address)
        except LkmError as error:
            return Proof(module.name, holds=False, detail=str(error))
        detail = _difference(raw, module, shown, state)
        if not detail:
            return Proof(module.name, holds=True)
    return Proof(module.name, holds=False, detail=detail)


def _difference(raw: RawModule, module: LoadedModule, shown: Optional[int], state: Optional[str]) -> str:
    for what, name in (("name", raw.name), ("kobject", raw.kobject_name)):
        if name is not None and name != module.name:
            return f"{what} {name!r} at {module.address:#x}, expected {module.name!r}"
    if shown is None or state is None:
        return "it is gone from /sys/module"
    if state == ModuleState.LIVE.value and raw.state != ModuleState.LIVE.number:
        return f"state {raw.state}, expected {ModuleState.LIVE.number} ({state})"
    if raw.refcnt != shown + 1:
        return f"refcnt {raw.refcnt}, expected {shown + 1} (shown as {shown})"
    for field, value in (("init", raw.init), ("exit", raw.exit)):
        if value and not is_kernel_pointer(value):
            return f"{field} {value:#x} is no pointer"
    return ""


def _no_proof(root: Root, modules: tuple[LoadedModule, ...]) -> str:
    """Why nothing could be proved."""
    live = [module for module in modules if module.state is ModuleState.LIVE]
    if not live:
        return "no healthy module is loaded on which the layout could be proved; load any in-tree module"
    if not any(module.address for module in live):
        return str(hidden_error(root, "the addresses in /sys/module/*/sections read as zero"))
    return "no live module has its sections in /sys/module"
