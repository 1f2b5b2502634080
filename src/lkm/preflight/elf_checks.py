# SPDX-License-Identifier: MIT
"""ELF header and section table, as load_module looks at them; each form stops at the first fault."""

from __future__ import annotations

from lkm.preflight.elf_plain import check_plainly, check_silently
from lkm.preflight.elf_split import check_split
from lkm.preflight.load import Load
from lkm.preflight.rules import ElfChecks
from lkm.preflight.values import Cause, StageResult

__all__ = ["check_elf"]

_CHECKS = {
    ElfChecks.SILENT: check_silently,
    ElfChecks.PLAIN: check_plainly,
    ElfChecks.SPLIT: check_split,
}


def check_elf(load: Load) -> StageResult:
    """The faults of the file's tables up to the first behind which nothing can be looked at.

    That is each but a struct module of another layout.
    """
    found = []
    for problem in _CHECKS[load.rules.elf](load):
        found.append(problem)
        if problem.cause is not Cause.STRUCT_MODULE:
            break
    return StageResult(tuple(found))
