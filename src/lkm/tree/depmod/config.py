# SPDX-License-Identifier: MIT
"""The files of depmod.d: which there are, and what they say together.

Source: kmod 34, tools/depmod.c (`cfg_files_list`, `cfg_load`, `cfg_kernel_matches`).
"""

from __future__ import annotations

import os

from lkm.formats.depmod_conf import DepmodConf, parse_depmod_conf
from lkm.tree.depmod.search import Report

__all__ = ["DIRECTORIES", "read_conf"]

DIRECTORIES = (
    b"/etc/depmod.d",
    b"/run/depmod.d",
    b"/usr/local/lib/depmod.d",
    b"/usr/lib/depmod.d",
    b"/lib/depmod.d",
)
"""A file hides those of its name in the directories after its own."""


def read_conf(paths: tuple[bytes, ...], release: bytes, report: Report) -> DepmodConf:
    """What the configuration says for a kernel release; `paths` are directories or files."""
    files: dict[bytes, bytes] = {}
    for path in paths:
        for name, file in _files_of(path, report):
            files.setdefault(name, file)
    conf = DepmodConf()
    for name in sorted(files):
        text = os.fsdecode(files[name])
        try:
            with open(files[name], "rb") as opened:
                data = opened.read()
        except OSError as error:
            report("ERROR", f"file parse {text}: {error.strerror}")
            continue
        conf = parse_depmod_conf(data, text, conf, lambda pattern: _matches(pattern, release), report)
    return conf if conf.searches else conf.with_searches((b"updates",))


def _files_of(path: bytes, report: Report) -> list[tuple[bytes, bytes]]:
    """Base name and path of each file that `path` means."""
    text = os.fsdecode(path)
    try:
        names = os.listdir(path)
    except NotADirectoryError:
        return [(os.path.basename(path), path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        report("ERROR", f"files list {text}: {error.strerror}")
        return []
    found = []
    for name in names:
        file = os.path.join(path, name)
        if name.startswith(b"."):
            continue
        if not name.endswith(b".conf") or len(name) < 6:
            report("INFO", f"All cfg files need .conf: {text}/{os.fsdecode(name)}")
        elif os.path.isdir(file):
            report("ERROR", f"Directories inside directories are not supported: {text}/{os.fsdecode(name)}")
        else:
            found.append((name, file))
    return found


def _matches(pattern: bytes, release: bytes) -> bool:
    """Whether a POSIX extended regular expression is found in the release; `*` alone is every release.

    The C library's own, as `re` differs (bracket classes, and which alternative wins); it is asked late, since
    ctypes takes a while to import and most files say `*`.
    """
    if pattern == b"*":
        return True
    import ctypes

    library = ctypes.CDLL(None)
    compiled = ctypes.create_string_buffer(512)  # regex_t: 64 bytes in glibc, 56 in musl
    extended, no_positions = 1, 8 if hasattr(library, "gnu_get_libc_version") else 4
    if library.regcomp(compiled, pattern, extended | no_positions):
        return False
    try:
        return bool(library.regexec(compiled, release, 0, None, 0) == 0)
    finally:
        library.regfree(compiled)
