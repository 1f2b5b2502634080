# SPDX-License-Identifier: MIT
"""The helper module, assembled in memory for the running kernel: no compiler, no headers, no file.

Everything that ties a module to a kernel is taken from a sibling, a `.ko` of that kernel: vermagic, the CRC
of `module_layout`, the size of `struct module` and where `init` stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from lkm.errors import LkmError
from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, STB_LOCAL, STT_FUNC, STT_SECTION
from lkm.formats.elfwriter import NewRelocation, NewSection, NewSymbol, build_relocatable
from lkm.formats.module import ModuleFile
from lkm.formats.sibling import modinfo_section, this_module_section, versions_section
from lkm.rescue.helper import HelperCode
from lkm.rescue.plan import Lock, Step
from lkm.rescue.table import Table, render_table

__all__ = ["assemble_helper"]


def assemble_helper(
    code: HelperCode, sibling: ModuleFile, step: Step, *, symbols: Mapping[str, int], name: str
) -> bytes:
    """A module file whose init does what `step` says and then fails, so that it never stays.

    `symbols` are kernel addresses by name (`lkm.rescue.table`). Raises LkmError where one is missing, or where
    the sibling lacks what the helper needs, and for a lock that the code cannot take.
    """
    if step.lock is Lock.IDEM_LOCK_INLINE and not code.takes_queued_locks:
        raise LkmError(
            f"{step.lock.symbol}: this kernel has no functions that take it, and this machine's helper cannot",
            remedy="restart when you can",
        )
    extra = [section for section in code.extra_sections if sibling.elf.section(section)]
    return build_relocatable(
        code.machine,
        [
            _text_section(code),
            _data_section(code, render_table(step, symbols)),
            modinfo_section(sibling, _ABOUT, name=name),
            *versions_section(sibling),
            this_module_section(sibling, name=name, pointer=code.pointer_relocation),
            *(NewSection(section, b"\0", flags=_RX) for section in extra),
            NewSection(".note.GNU-stack"),
        ],
        [
            NewSymbol("", ".data", bind=STB_LOCAL, type=STT_SECTION, id=".data"),
            NewSymbol("init_module", ".text", size=len(code.text), type=STT_FUNC),
        ],
        flags=sibling.elf.flags,
    )


_RW = SHF_ALLOC | SHF_WRITE
_RX = SHF_ALLOC | SHF_EXECINSTR
_ABOUT = (("license", "GPL"), ("description", "lkm: conditional edits, never stays loaded"))


def _text_section(code: HelperCode) -> NewSection:
    relocations = [
        NewRelocation(item.offset, item.type, item.symbol, item.addend) for item in code.relocations
    ]
    return NewSection(".text", code.text, flags=_RX, align=16, relocations=relocations)


def _data_section(code: HelperCode, table: Table) -> NewSection:
    pointers = [
        NewRelocation(offset, code.pointer_relocation, ".data", target)
        for offset, target in table.pointers.items()
    ]
    return NewSection(".data", table.data, flags=_RW, align=8, relocations=pointers)
