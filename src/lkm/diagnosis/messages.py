# SPDX-License-Identifier: MIT
"""What the kernel's words mean: its messages around a load or a removal, and the errno that came back. Pure.

Messages: kernel/module.c (until 5.17), kernel/module/*.c (since), kernel/params.c, arch/*/mm/fault.c.
"""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple

__all__ = ["Explanation", "explain_errno", "explain_message", "init_result"]


class Explanation(NamedTuple):
    """A pattern of a kernel message, and what it means for whoever loads or removes."""

    pattern: re.Pattern[str]
    meaning: str


MESSAGES = tuple(
    Explanation(re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"loading out-of-tree module taints kernel", "normal for a module that is not the kernel's own (taint O)"),
        (r"module verification failed: signature and/or required key missing", "unsigned; taken all the same (taint E)"),
        (r"module license '.*' taints kernel", "no GPL-compatible licence: GPL-only symbols are closed to it (taint P)"),
        (r"Unknown symbol (\S+) \(err -2\)", "{1} is exported by nobody who is loaded: load its provider first"),
        (r"Unknown symbol (\S+) \(err -22\)", "{1} has another CRC, or its namespace is not imported"),
        (r"disagrees about version of symbol (\S+)", "built against another kernel build: {1} has another CRC here"),
        (r"version magic '(.*)' should be '(.*)'", "built for '{1}', this kernel is '{2}': rebuild it"),
        (r"gave up waiting for init of module (\S+)", "{1}, which it needs, is still in its init: lkm why {1}"),
        (r"no symbol version for", "built without the kernel's Module.symvers"),
        (r"uses symbol (\S+) from namespace (\S+), but does not import", "MODULE_IMPORT_NS({2}) is missing"),
        (r"exports duplicate symbol (\S+) \(owned by (\S+)\)", "{2} exports {1} already"),
        (r"module is already loaded", "the name is taken in sysfs: an earlier load left it behind"),
        (r"Invalid module signature|Loading of .* is rejected", "signatures are enforced, and this one is not trusted"),
        (r"module is blacklisted", "module_blacklist= on the kernel's command line names it"),
        (r"unknown parameter '(.*)' ignored", "it has no parameter {1}"),
        (r"[`'](.*)' invalid for parameter [`'](.*)'", "the value {1} does not fit the parameter {2}"),
        (r"\.gnu\.linkonce\.this_module section size must match", "built with another configuration: rebuild it"),
        (r"BPF:.*|failed to validate module \[\S+\] BTF", "its BTF does not fit this kernel's; the load may go on"),
        (r"suspiciously returned (-?\d+), it should follow 0/-E convention", "init returned {1}: taken as success"),
        (r"NULL pointer dereference", "code went through a NULL pointer: the task is killed where it stands"),
        (r"BUG: unable to handle page fault", "code touched an address that is not mapped: the task is killed"),
        (r"Unable to handle kernel", "code touched an address that it must not: the task is killed"),
        (r"general protection fault", "code went through a wild pointer: the task is killed"),
        (r"kernel BUG at", "code found something impossible and gave up (BUG): the task is killed"),
        (r"Oops:", "an oops: what the dead task held, it holds for ever"),
        (r"RIP: \d+:(\S+) \[(\S+)\]", "it happened in {1} of module {2}"),
        (r"exited with (?:irqs disabled|preempt_count)", "usual after an oops: the task died in the middle of it"),
        (r"Fixing recursive fault but reboot is needed", "the dying task faulted again: it stays, and so do its locks"),
    )
)  # fmt: skip


def explain_message(text: str) -> str:
    """What the message means, in words; empty for one that explains itself."""
    for pattern, meaning in MESSAGES:
        match = pattern.search(text)
        if match:
            return _fill(meaning, match)
    return ""


def _fill(meaning: str, match: re.Match[str]) -> str:
    return re.sub(r"\{(\d)\}", lambda place: match.group(int(place.group(1))), meaning)


def init_result(text: str) -> int | None:
    """The value that a module's init returned, from the kernel's warning about a positive one, else None."""
    match = re.search(r"suspiciously returned (-?\d+),", text)
    return int(match.group(1)) if match else None


_LOAD_ERRNO = {
    errno.ENOEXEC: "the file does not fit this kernel: format, architecture, vermagic, or CRC of module_layout",
    errno.ENOENT: "a symbol is missing: a dependency is not loaded, or the symbol is GPL-only",
    errno.EINVAL: "a symbol's CRC or namespace, a parameter, or the name in sysfs is wrong",
    errno.EBUSY: "a module of that name is on its way in or out, or a dependency did not finish its init",
    errno.EEXIST: "a module of that name is loaded",
    errno.EKEYREJECTED: "signatures are enforced, and this file has none that the kernel trusts",
    errno.EBADMSG: "the signature block is corrupt: that is fatal even where signatures are not enforced",
    errno.EPERM: "not permitted: no CAP_SYS_MODULE, modules_disabled, module_blacklist=, or lockdown",
    errno.EACCES: "a security module (SELinux, IMA, LoadPin) forbids it",
    errno.ETXTBSY: "the file is open for writing",
    errno.EFBIG: "the file is too large",
    errno.ENOMEM: "not enough memory for modules",
    errno.EOPNOTSUPP: "this kernel does not take compressed files",
    errno.EINTR: "a signal came while it waited",
}


def explain_errno(number: int, *, init_ran: bool | None) -> str:
    """The errno of a load in words. `init_ran`: whether the module's own init was reached; None: not known."""
    text = f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
    if init_ran:
        return f"its init ran and returned -{text}; the kernel did not keep it"
    meaning = _LOAD_ERRNO.get(number, "most likely what its own init returned")
    return f"{text}: {meaning}"
