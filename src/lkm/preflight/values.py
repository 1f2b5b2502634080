# SPDX-License-Identifier: MIT
"""What a prediction is made of: causes, problems, and the kernel's answer."""

from __future__ import annotations

import errno
import os
from enum import Enum
from typing import NamedTuple, Optional

from lkm.preflight.kernel import Verdict

__all__ = ["Cause", "Certainty", "Prediction", "Problem", "StageResult", "errno_name"]


class Cause(Enum):
    """Why a load fails. The order is roughly the kernel's; the values are for programs."""

    FILE = "file"
    NO_PRIVILEGE = "no-privilege"
    MODULES_DISABLED = "modules-disabled"
    SIGNATURE_CORRUPT = "signature-corrupt"
    SIGNATURE_REJECTED = "signature-rejected"
    UNSIGNED = "unsigned"
    LOCKDOWN = "lockdown"
    ELF = "elf"
    ARCHITECTURE = "architecture"
    NO_SYMBOL_TABLE = "no-symbol-table"
    NO_THIS_MODULE = "no-this-module"
    STRUCT_MODULE = "struct-module"
    BLACKLISTED = "blacklisted"
    MODULE_LAYOUT = "module-layout"
    VERMAGIC = "vermagic"
    LIVEPATCH = "livepatch"
    WRITE_EXEC = "write-exec"
    ARCHITECTURE_SECTIONS = "architecture-sections"
    MEMORY = "memory"
    LOADED = "loaded"
    IN_PROGRESS = "in-progress"
    EXPORT_TABLES = "export-tables"
    NAMESPACE_FORBIDDEN = "namespace-forbidden"
    SYMBOL_MISSING = "symbol-missing"
    PROVIDER_NOT_LOADED = "provider-not-loaded"
    GPL_ONLY = "gpl-only"
    PROPRIETARY_PROVIDER = "proprietary-provider"
    SYMBOL_VERSION = "symbol-version"
    NAMESPACE = "namespace"
    SYMBOL_COMMON = "symbol-common"
    SYMBOL_INDEX = "symbol-index"
    RELOCATION = "relocation"
    DUPLICATE_EXPORT = "duplicate-export"
    BTF = "btf"
    PARAMETER = "parameter"
    NAME_TAKEN = "name-taken"


class Certainty(Enum):
    """How sure a problem is.

    CERTAIN  read off the file and the kernel
    LIKELY   what decides it is known of a neighbour only (another release of the series, a default)
    UNKNOWN  nobody outside can know: see docs/check.md
    """

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"


class Problem(NamedTuple):
    """One fault of a file for one kernel.

    errno   what the load would fail with because of it; None where the kernel complains and goes on
    lines   what the kernel would print, without time and prefix; empty where it says nothing
    words   the cause in words
    remedy  what to do
    source  the kernel function that decides it
    symbol  the symbol that it is about
    """

    cause: Cause
    errno: Optional[int]
    words: str
    remedy: str
    source: str
    lines: tuple[str, ...] = ()
    certainty: Certainty = Certainty.CERTAIN
    symbol: str = ""


class StageResult(NamedTuple):
    """What one step of load_module finds. With `last_wins` it goes through everything and fails with the error
    of the last (simplify_symbols, parse_args); the others fail with the first."""

    problems: tuple[Problem, ...]
    last_wins: bool = False

    @property
    def fatal(self) -> tuple[Problem, ...]:
        """Those that end the load."""
        return tuple(problem for problem in self.problems if problem.errno is not None)


class Prediction(NamedTuple):
    """What a load would come to.

    module    the name that it would have
    release   of the kernel
    problems  all faults, in the order in which the kernel looks for them
    errno     what insmod would get; None: it would come to its init, or nobody knows (see `unknown`)
    lines     what the kernel would print at the fault that it stops at
    unknown   what had to be known and is not, each a sentence
    signature what verifying it came to (`Verdict`); None: it has no sound signature, or nobody looks at it
    """

    module: str
    release: str
    problems: tuple[Problem, ...] = ()
    errno: Optional[int] = None
    lines: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    signature: Optional[Verdict] = None

    @property
    def loads(self) -> Optional[bool]:
        """Whether it would come to its init; None: unknown."""
        if self.errno is not None:
            return False
        return None if self.unknown else True


def errno_name(number: int) -> str:
    """`ENOEXEC (Exec format error)`."""
    return f"{errno.errorcode.get(number, str(number))} ({os.strerror(number)})"
