# SPDX-License-Identifier: MIT
"""Every error that lkm raises; those below the first level stand next to the code that raises them.

    LkmError                      base: what happened, what was being read, what to do next
    ├── UsageError                wrong command line or wrong argument                       (exit 2)
    ├── ParseError (ValueError)   bytes that are not what they should be                     (exit 1)
    │   ├── ElfError              an ELF file
    │   ├── SectionError          an ELF file of which only a section is wanted
    │   ├── ModuleError           a module file, or one of another architecture
    │   ├── ObjectError           an object file that no module can be made of
    │   ├── CompressionError      a gzip, xz or zstd stream, or one that unpacks to too much
    │   ├── KernelImageError      a kernel's image, as it lies in /boot
    │   ├── ImageSymbolsError     the symbols in such an image
    │   ├── SignatureError        the signature at a module's end
    │   ├── CertificateError      a file of certificates
    │   ├── ModInfoError          .modinfo
    │   ├── ModVersionsError      __versions and its extended form
    │   ├── NoteError             ELF notes, such as the build-id
    │   ├── VmcoreinfoError       what the kernel tells of itself in /proc/kcore
    │   ├── BtfError              BTF
    │   │   └── BtfLookupError (LookupError)  a type or member that this kernel does not have
    │   ├── ModuleIndexError      a binary index of kmod's, such as modules.dep.bin
    │   ├── ProcModulesError      a line of /proc/modules
    │   ├── StackError            a line of /proc/PID/stack
    │   └── KmsgError             a record of /dev/kmsg
    ├── ElfWriteError (ValueError)  an ELF file that cannot be made as it was asked for      (exit 1)
    ├── IndexWriteError (ValueError)  keys or values that an index file cannot hold          (exit 1)
    ├── ModinfoError              a file that modinfo cannot read as a module                (exit 1)
    ├── DepmodError               the files that depmod makes cannot be made                 (exit 1)
    ├── FileFault                 a file that no kernel takes for a module: foretold, not raised to users
    ├── KernelCallError (OSError) a system call failed, was killed or did not return         (exit 1)
    │   └── NoLoadableModules     the kernel was built without them
    ├── Busy                      another lkm is at work on this kernel                      (exit 1)
    ├── ThreadsUnknown            who lives could not be told                                (exit 1)
    ├── KcoreError                kernel memory that is not mapped or cannot be read         (exit 1)
    ├── Refused                   policy or safety forbids it                                (exit 3)
    ├── NeedsRoot                 root would help                                            (exit 4)
    │   └── SymbolsHidden         every address in /proc/kallsyms reads as zero
    └── LabError                  the lab: archive, image, virtual machine                   (exit 1)
        ├── BuildFailed           a module does not build
        ├── GuestDied             the virtual machine is gone
        └── GuestTimeout          it does not answer in time

"Cannot unload" and "would not load" are no errors but returned findings (`lkm.diagnosis`).
"""

from __future__ import annotations

import errno

__all__ = [
    "KernelCallError",
    "LabError",
    "LkmError",
    "NeedsRoot",
    "NoLoadableModules",
    "ParseError",
    "Refused",
    "UsageError",
]


class LkmError(Exception):
    """Base of all errors. `remedy` says what to do next; it may be empty.

    `exit_code` is what the command line ends with when the error reaches it.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(LkmError):
    """Wrong command line, or an argument that names nothing."""

    exit_code = 2


class ParseError(LkmError, ValueError):
    """Bytes that are not what they should be. The message names the file or the structure."""


class KernelCallError(LkmError, OSError):
    """A call into the kernel failed (`errno` set), died by a signal or did not return (`errno` None)."""

    def __init__(self, message: str, *, errno: int | None = None, remedy: str = "") -> None:
        LkmError.__init__(self, message, remedy=remedy)
        self.errno = errno


class NoLoadableModules(KernelCallError):
    """The kernel was built without loadable modules (CONFIG_MODULES): there is nothing to load or unload."""

    def __init__(self) -> None:
        super().__init__("this kernel has no loadable modules (CONFIG_MODULES is off)", errno=errno.ENOSYS)


class Refused(LkmError):
    """Policy or safety forbids it. The message has the reason, the remedy the way on."""

    exit_code = 3


class NeedsRoot(LkmError):
    """The caller lacks the privilege; as root it would go on."""

    exit_code = 4


class LabError(LkmError):
    """The lab could not fetch, build or boot something."""
