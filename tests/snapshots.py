# SPDX-License-Identifier: MIT
"""Snapshots for tests: a machine with just what the test is about."""

from __future__ import annotations

from typing import Any

from lkm.names import ModuleName, module_name
from lkm.system.snapshot import (
    Layout,
    LoadedModule,
    MemoryRange,
    ModuleState,
    Policy,
    Proof,
    RawModule,
    Registration,
    RegistrationKind,
    Sibling,
    Snapshot,
    Task,
    TaskFrame,
)

ADDRESS = 0xFFFFFFFFC0123040
LAYOUT = Layout(
    size=896,
    init=312,
    exit=848,
    refcnt=856,
    origin="sibling and btf",
    num_syms=224,
    num_gpl_syms=276,
    proofs=(Proof(module_name("healthy"), holds=True),),
)
SIBLING = Sibling(
    path="/lib/modules/6.1.0/kernel/healthy.ko",
    name=module_name("healthy"),
    vermagic="6.1.0 SMP mod_unload modversions ",
    intree=True,
    build_id="ab" * 20,
    build_matches=True,
    size=896,
    init=312,
    exit=848,
    crc=0x12345678,
)
SYMBOLS = {
    "copy_from_kernel_nofault": 0xFFFFFFFF81000010,
    "copy_to_kernel_nofault": 0xFFFFFFFF81000020,
    "mutex_trylock": 0xFFFFFFFF81000030,
    "mutex_unlock": 0xFFFFFFFF81000040,
    "module_mutex": 0xFFFFFFFF82000000,
}
RAW_IDLE = {ModuleState.LIVE: 1, ModuleState.COMING: 2, ModuleState.GOING: 0, ModuleState.UNFORMED: 1}


def make_module(
    name: str, state: ModuleState = ModuleState.LIVE, extra: int = 0, **fields: Any
) -> LoadedModule:
    """A module as the kernel has it in that state, with `extra` references beyond the idle count."""
    raw_count = RAW_IDLE[state] + extra
    has_exit = not fields.get("permanent", False)
    raw = RawModule(
        name=module_name(name),
        state=state.number,
        refcnt=raw_count,
        init=0xFFFFFFFFC0125000,
        exit=0xFFFFFFFFC0120000 if has_exit else 0,
        num_syms=fields.pop("num_syms", 0),
        num_gpl_syms=0,
    )
    defaults: dict[str, Any] = {
        "size": 16384,
        "permanent": False,
        "address": ADDRESS,
        "memory": (MemoryRange(0xFFFFFFFFC0120000, 0x4000, "core"),),
        "raw": raw,
    }
    return LoadedModule(module_name(name), state, raw_count - 1, **{**defaults, **fields})


def make_task(*frames: str, pid: int = 4711, **fields: Any) -> Task:
    """A live task; each frame is `function` or `function [module]`, innermost first."""
    defaults: dict[str, Any] = {"command": "insmod", "state": "S", "kernel": False}
    return Task(pid=pid, tid=pid, stack=tuple(map(_frame, frames)), **{**defaults, **fields})


def _frame(text: str) -> TaskFrame:
    symbol, _, module = text.partition(" [")
    return TaskFrame(symbol, 0x10, module_name(module[:-1]) if module else None)


def make_registration(kind: RegistrationKind, name: str, module: str, **fields: Any) -> Registration:
    """Something that `module` has left in a table."""
    return Registration(kind, name, module_name(module), **{"certain": True, "source": "a table", **fields})


def make_snapshot(*modules: LoadedModule, **fields: Any) -> Snapshot:
    """Root on a Debian 6.1 that allows everything, with these modules."""
    defaults: dict[str, Any] = {
        "policy": Policy(loadable=True, cap_sys_module=True, module_unload=True, modules_disabled=False),
        "layout": LAYOUT,
        "sibling": SIBLING,
        "symbols": SYMBOLS,
    }
    return Snapshot(release="6.1.0", machine="x86_64", modules=modules, **{**defaults, **fields})


def name(text: str) -> ModuleName:
    """Short for `module_name` in assertions."""
    return module_name(text)
