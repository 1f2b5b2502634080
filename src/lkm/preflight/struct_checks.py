# SPDX-License-Identifier: MIT
"""Where a module's struct module has its init and exit, against a module of that kernel.

The kernel does not look: it calls what stands in its own fields (do_init_module, delete_module; 5.10 to 7.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from lkm.formats.elf import SHT_RELA
from lkm.formats.raw_module import RELA
from lkm.preflight.load import Load
from lkm.preflight.values import Cause, Problem, StageResult

__all__ = ["check_hooks"]

_HOOKS = (("init_module", "init_offset", "its init would not be called"),
          ("cleanup_module", "exit_offset", "its exit would not be called"))  # fmt: skip


def check_hooks(load: Load) -> StageResult:
    """A note for each function that is not where this kernel looks for it."""
    wanted = load.target.struct_module
    if wanted is None or not load.this_module:
        return StageResult(())
    places = dict(_places(load))
    problems = []
    for symbol, field, consequence in _HOOKS:
        place, right = places.get(symbol), getattr(wanted, field)
        if place is not None and right is not None and place != right:
            words = (
                f"its struct module has {symbol} at {place}, this kernel's at {right}: the kernel does not look;"
                f" {consequence}, and another field is overwritten with its address"
            )
            remedy = "build it against the headers of this very kernel"
            problems.append(Problem(Cause.STRUCT_MODULE, None, words, remedy, "do_init_module"))
    return StageResult(tuple(problems))


def _places(load: Load) -> Iterator[tuple[str, int]]:
    """Symbol and offset of what is written into the struct."""
    image = load.image
    tables = image.symbol_tables
    for row in image.sections[1:]:
        if row.type != SHT_RELA or row.info != load.this_module or not tables:
            continue
        content = image.content(row)
        for offset, _, number, _ in RELA.iter_unpack(content[: len(content) // RELA.size * RELA.size]):
            symbol = image.symbol(tables[0], number)
            if symbol is not None:
                yield image.symbol_name(tables[0], symbol), offset
