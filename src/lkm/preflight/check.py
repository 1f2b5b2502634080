# SPDX-License-Identifier: MIT
"""A file against a kernel: every check in the kernel's order, all faults, and the answer of the first.

Source: load_module (kernel/module.c 5.10; kernel/module/main.c 6.1, 6.12, 7.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from lkm.preflight.btf_checks import check_btf
from lkm.preflight.early_checks import check_layout, check_name, check_section_flags, check_vermagic
from lkm.preflight.elf_checks import check_elf
from lkm.preflight.kernel import Request, Target
from lkm.preflight.late_checks import (
    check_architecture_sections,
    check_sysfs_name,
    check_trampolines,
)
from lkm.preflight.load import Load
from lkm.preflight.memory import check_memory
from lkm.preflight.parameters import check_parameters
from lkm.preflight.policy_checks import check_blacklist, check_content, check_privilege, check_signature
from lkm.preflight.relocations import check_relocations
from lkm.preflight.struct_checks import check_hooks
from lkm.preflight.symbol_checks import (
    check_duplicate_exports,
    check_export_tables,
    check_import_namespaces,
    check_symbols,
)
from lkm.preflight.values import Cause, Prediction, Problem, StageResult

__all__ = ["check_module"]

Check = Callable[[Load], StageResult]

_TABLES: tuple[Check, ...] = (check_privilege, check_content, check_signature, check_elf)
"""Until the file's tables are known to be sound, nothing behind them can be looked at."""

_EARLY: tuple[Check, ...] = (check_blacklist, check_layout, check_vermagic)
_NAME_FIRST: tuple[Check, ...] = (check_name, check_architecture_sections, check_section_flags, check_memory)
"""6.4 looks for the name before it takes memory (early_mod_check)."""
_NAME_LAST: tuple[Check, ...] = (check_architecture_sections, check_section_flags, check_memory, check_name)
_LATE: tuple[Check, ...] = (
    check_hooks,
    check_export_tables,
    check_import_namespaces,
    check_symbols,
    check_relocations,
    check_trampolines,
    check_duplicate_exports,
    check_btf,
    check_parameters,
    check_sysfs_name,
)


def check_module(data: bytes, target: Target, request: Optional[Request] = None) -> Prediction:
    """What loading `data` (a module file, decompressed, with its signature) into `target` would come to."""
    load = Load(data, target, request or Request())
    stages: list[StageResult] = []
    doubts: list[int] = []
    for check in _checks(load):
        stages.append(check(load))
        doubts.append(len(load.unknown))
        if check is check_elf and _is_structural(stages[-1]):
            break
        if check is check_content and stages[-1].fatal:
            break
        if check is check_signature and stages[-1].fatal and _has_no_payload(stages[-1]):
            break
    return _conclude(load, stages, doubts)


def _checks(load: Load) -> tuple[Check, ...]:
    named = _NAME_FIRST if load.rules.early_checks else _NAME_LAST
    return (*_TABLES, *_EARLY, *named, *_LATE)


def _is_structural(result: StageResult) -> bool:
    """Whether what is found makes the checks behind it meaningless."""
    return any(problem.cause is not Cause.STRUCT_MODULE for problem in result.fatal)


def _has_no_payload(result: StageResult) -> bool:
    """Whether it is not known where the module ends."""
    return any(problem.cause is Cause.SIGNATURE_CORRUPT for problem in result.fatal)


def _conclude(load: Load, stages: list[StageResult], doubts: list[int]) -> Prediction:
    problems: list[Problem] = []
    for stage in stages:
        problems.extend(stage.problems)
    failed = next((index for index, stage in enumerate(stages) if stage.fatal), None)
    # What was not known before the fault counts; what comes after the kernel never gets to.
    unknown = tuple(load.unknown[: doubts[failed]] if failed is not None else load.unknown)
    name = load.struct_name if len(stages) >= len(_TABLES) else ""
    if failed is None:
        return Prediction(name, load.target.release, tuple(problems), None, (), unknown, load.signature)
    stage = stages[failed]
    if stage.last_wins:
        number = stage.fatal[-1].errno
        lines = tuple(line for problem in stage.problems for line in problem.lines)
    else:
        number, lines = stage.fatal[0].errno, stage.fatal[0].lines
    return Prediction(name, load.target.release, tuple(problems), number, lines, unknown, load.signature)
