# SPDX-License-Identifier: MIT
"""What the kernel does with each section of a module when it loads it.

Source: kernel/module/main.c (`find_module_sections`, `post_relocation`, `complete_formation`), `module_finalize` of
x86 and arm64, and the notifiers of MODULE_STATE_COMING; 5.10 to 7.3.
"""

from __future__ import annotations

import enum
from typing import Optional

__all__ = ["Stage", "fate_of", "stage_of"]


class Stage(enum.Enum):
    """The step of load_module that uses a section."""

    FOUND = "found"
    """find_module_sections notes where it is; who needs it looks there later."""
    FINISHED = "finished"
    """post_relocation, and ftrace_module_init: what needs addresses that are final."""
    COMING = "coming"
    """complete_formation, the notifiers of prepare_coming_module, mod_sysfs_setup."""


_EXACT = {
    ".gnu.linkonce.this_module": "becomes its struct module, with its name, init and exit",
    ".modinfo": "read before anything is allocated: vermagic, licence, name (check_modinfo); not kept",
    "__versions": "checksums of the symbols that it takes, compared (check_version); not kept",
    ".init.text": "its init; freed once that has returned (do_free_init)",
    ".init.data": "data of its init; freed with it",
    ".init.rodata": "constants of its init; freed with it",
    ".exit.text": "its exit; kept, for delete_module calls it",
    ".text": "its code; made executable and read-only (complete_formation)",
    ".rodata": "its constants; made read-only (complete_formation)",
    ".data": "its variables",
    ".bss": "its variables that begin as zero: nothing of it is in the file",
    ".data..percpu": "one copy a processor (percpu_modalloc); not in its own memory",
    ".data..ro_after_init": "read-only once init has returned (do_init_module)",
    ".data..read_mostly": "variables that are hardly ever written",
    ".ref.data": "variables that may point to its init (__refdata)",
    ".noinstr.text": "code that nobody may trace",
    "__param": "its parameters: parse_args sets them, /sys/module/NAME/parameters shows them",
    "__ex_table": "places that may fault, sorted (sort_extable)",
    "__bug_table": "places of BUG and WARN, put on a list (module_bug_finalize)",
    "__jump_table": "static branches, patched (jump_label_add_module)",
    ".static_call.text": "trampolines of its static calls",
    ".static_call_sites": "static calls, patched (static_call_add_module)",
    "__tracepoints_ptrs": "its tracepoints (tracepoint_module_coming)",
    "__mcount_loc": "where functions begin, for ftrace (ftrace_module_init)",
    "__patchable_function_entries": "room at the start of functions for ftrace",
    "__tracepoint_check": "which tracepoints it uses: for a check of the build (7.3)",
    "__bpf_raw_tp_map": "its tracepoints, for BPF (bpf_event_notify)",
    "_ftrace_events": "its trace events (trace_module_add_events)",
    "_ftrace_eval_map": "names of enums in its trace events (trace_module_add_evals)",
    "__dyndbg": "its pr_debug lines, for dynamic_debug/control (ddebug_add_module)",
    ".altinstructions": "instructions replaced by those of this processor (apply_alternatives)",
    ".altinstr_replacement": "what replaces them",
    ".altinstr_aux": "code that chooses by the processor's features",
    ".parainstructions": "calls that a hypervisor may replace, patched (apply_paravirt, 6.1)",
    ".smp_locks": "lock prefixes, taken out on one processor (alternatives_smp_module_add)",
    ".retpoline_sites": "indirect jumps, patched against Spectre (apply_retpolines)",
    ".return_sites": "returns, patched against Retbleed (apply_returns)",
    ".call_sites": "calls, padded against call depth attacks (callthunks_patch_module_calls)",
    ".ibt_endbr_seal": "landing pads that nobody needs, sealed (apply_seal_endbr)",
    ".orc_unwind": "how to unwind its stacks, sorted (unwind_module_init)",
    ".orc_unwind_ip": "where each of them holds",
    ".orc_header": "which form of them this is, compared (unwind_module_init)",
    ".BTF": "its types, checked and shown in /sys/kernel/btf (btf_module_notify)",
    ".BTF_ids": "numbers of types, for BPF",
    ".BTF.base": "the kernel's types that it needs (btf_module_notify)",
    ".plt": "trampolines to what is too far away; sized at load (module_frob_arch_sections)",
    ".init.plt": "the same for its init",
    ".text.ftrace_trampoline": "the same for ftrace",
    ".symtab": "its symbols: resolved, and the ones that stay kept for /proc/kallsyms (layout_symtab)",
    ".strtab": "their names",
    ".shstrtab": "names of sections; not kept",
    ".comment": "which compiler made it; not kept",
}
_PREFIXES = (
    (".rela", "relocations: applied to their section, not kept (apply_relocate_add)"),
    ("__ksymtab_strings", "names of its exports"),
    ("__ksymtab", "its exports, for other modules (find_module_sections)"),
    ("__kcrctab", "checksums of its exports"),
    ("__kflagstab", "which of its exports are for the GPL alone"),
    ("__version_ext", "checksums of the symbols that it takes, in the longer form; compared, not kept"),
    (".note", "shown in /sys/module/NAME/notes (add_notes_attrs)"),
    ("__tracepoints", "its tracepoints"),
    (".init", "of its init; freed with it"),
    (".exit", "of its exit; kept"),
    (".text", "code of its own kind, with .text"),
    (".rodata", "constants, with .rodata"),
    (".data", "variables, with .data"),
    (".discard", "for the build only; not kept"),
    (".debug", "for debuggers only; not kept"),
    (".group", "for the linker only; not kept"),
)


def fate_of(name: str) -> str:
    """What becomes of the section, in words; "" for one that nothing here knows: copied if it is SHF_ALLOC."""
    found = _EXACT.get(name)
    if found:
        return found
    return next((text for prefix, text in _PREFIXES if name.startswith(prefix)), "")


_FINISHED = (
    "__ex_table", ".altinstructions", ".altinstr_replacement", ".smp_locks", ".parainstructions", ".retpoline_sites",
    ".return_sites", ".call_sites", ".ibt_endbr_seal", ".orc_", ".plt", ".init.plt", ".text.ftrace_trampoline",
    "__mcount_loc", "__patchable_function_entries", ".data..percpu",
)  # fmt: skip
_COMING = (
    "__bug_table", "__jump_table", ".static_call_sites", "__tracepoints_ptrs", "__bpf_raw_tp_map", "_ftrace_e",
    "__dyndbg", ".BTF", ".note",
)  # fmt: skip
_FOUND = ("__param", "__ksymtab", "__kcrctab", "__kflagstab")
_STAGES = ((_FINISHED, Stage.FINISHED), (_COMING, Stage.COMING), (_FOUND, Stage.FOUND))


def stage_of(name: str) -> Optional[Stage]:
    """The step that uses the section; None for one that is only copied."""
    return next((stage for prefixes, stage in _STAGES if name.startswith(prefixes)), None)
