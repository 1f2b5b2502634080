# SPDX-License-Identifier: MIT
"""The way from a request to the files. Source: kmod 34, tools/depmod.c (`do_depmod`, `depmod_output`)."""

from __future__ import annotations

import os
from collections.abc import Callable

from lkm.errors import LkmError
from lkm.tree.depmod.config import read_conf
from lkm.tree.depmod.kernel import parse_symvers, parse_system_map
from lkm.tree.depmod.output import Modules, read_input, render_all, render_texts
from lkm.tree.depmod.read import processors, read_modules
from lkm.tree.depmod.render import NotAscii
from lkm.tree.depmod.request import DepmodRequest
from lkm.tree.depmod.resolve import (
    KERNEL,
    find_cycles,
    owners_of,
    plain_name,
    sort_users_first,
    transitive,
    used_by,
)
from lkm.tree.depmod.search import Found, Report, in_order, name_of, search_modules, stat_identity
from lkm.tree.depmod.write import FileError, replace_files

__all__ = ["DepmodError", "run_depmod"]


class DepmodError(LkmError):
    """The files cannot be made, and the old ones are as they were."""


def run_depmod(request: DepmodRequest, report: Report, write: Callable[[bytes], None]) -> dict[str, object]:
    """Make the files, and say what was done, for JSON. Raises `DepmodError`.

    report  is told what is wrong but does not stop the run
    write   takes what goes to standard output
    """
    kernel = _read_kernel(request, report)
    modules = _find_and_read(request, report)
    for path, (_, code) in zip(modules.paths, modules.outcomes):
        if code:
            report("ERROR", f"failed to load symbols from {os.fsdecode(path)}: {os.strerror(code)}")
    owners = owners_of(modules.column(0), request.prefix, dict.fromkeys(kernel or (), KERNEL))
    used = [used_by(names, owners, request.prefix) for names in modules.column(1)]
    if request.verbose:
        _tell_needs(request, modules, owners, used, write)
    if request.errors and kernel is not None:
        from lkm.tree.depmod.check import check_symbols

        check_symbols(request, modules.paths, kernel, owners, report)
    needs = _resolve(modules, used, report)
    if request.show:
        contents = dict(render_texts(modules, owners, needs, report))
        for content in contents.values() if not request.json else ():
            write(content)
    else:
        try:
            contents = render_all(request, modules, owners, needs, report)
        except NotAscii as bad:
            text = bad.key.decode("utf-8", "backslashreplace")
            raise DepmodError(f"Module index: only 7-bit ASCII is supported: {text}") from bad
        _write(request.output, contents)
    return {
        "directory": os.fsdecode(request.top if request.show else request.output),
        "modules": len(modules.names),
        "unreadable": [os.fsdecode(path) for path, (_, code) in zip(modules.paths, modules.outcomes) if code],
        "written": [] if request.show else [name.decode() for name in contents],
    }


def _find_and_read(request: DepmodRequest, report: Report) -> Modules:
    top = request.top
    found = _named_files(request) if request.files else _search(request, report)
    order = read_input(top, b"modules.order", report)
    names = in_order(top, {name: path for name, (path, _) in found.items()}, order, report)
    paths = [found[name][0] for name in names]
    sizes = [found[name][1][0] for name in names]
    return Modules(top, names, paths, read_modules(paths, sizes, request.processes or processors()))


def _search(request: DepmodRequest, report: Report) -> Found:
    conf = read_conf(request.configs, request.release.encode(errors="surrogateescape"), report)
    try:
        return search_modules(request.top, conf, report)
    except OSError as error:
        report("ERROR", f"could not open directory {os.fsdecode(request.top)}: {error.strerror}")
        raise DepmodError(f"could not search modules: {error.strerror}") from error


def _named_files(request: DepmodRequest) -> Found:
    found: Found = {}
    for path in request.files:
        text, name = os.fsdecode(path), name_of(path)
        if not path.startswith(b"/"):
            raise DepmodError(f"{text}: not absolute path.")
        try:
            status = os.stat(path)
        except OSError as error:
            raise DepmodError(f"could not create module {text}: {error.strerror}") from error
        if name in found:
            raise DepmodError(f"could not add module {text}: {os.fsdecode(found[name][0])} has the same name")
        found[name] = (path, stat_identity(status))
    return found


def _read_kernel(request: DepmodRequest, report: Report) -> dict[bytes, int] | None:
    """What the kernel exports, and each one's CRC; None if that was not said."""
    name = request.symvers or request.system_map
    if not name:
        if request.errors:
            report("WARNING", "-e needs -E or -F")
        return None
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DepmodError(f"could not load {name}: {error.strerror}") from error
    parse = parse_symvers if request.symvers else parse_system_map
    return parse(data, name, request.prefix, report)


def _tell_needs(
    request: DepmodRequest,
    modules: Modules,
    owners: dict[bytes, int],
    used: list[list[int]],
    write: Callable[[bytes], None],
) -> None:
    for path, names, users in zip(modules.paths, modules.column(1), used):
        told: set[int] = set()
        for name in names[:-1].split(b"\0") if users else ():
            plain = plain_name(name, request.prefix)
            owner = owners.get(plain, KERNEL)
            if owner >= 0 and owner not in told:
                told.add(owner)
                write(path + b' needs "' + plain + b'": ' + modules.paths[owner] + b"\n")


def _resolve(modules: Modules, used: list[list[int]], report: Report) -> list[list[int]]:
    """Of each module all that it needs."""
    ordered = sort_users_first(used)
    if len(ordered) < len(used):
        _tell_cycles(modules.names, used, ordered, report)
        raise DepmodError("modules depend on each other in a loop: nothing was written")
    return transitive(used, ordered)


def _tell_cycles(names: list[bytes], used: list[list[int]], ordered: list[int], report: Report) -> None:
    def tell(cycle: list[int]) -> None:
        report("ERROR", "Cycle detected: " + " -> ".join(os.fsdecode(names[number]) for number in cycle))

    count = find_cycles(used, ordered, tell)
    report("ERROR", f"Found {count} modules in dependency cycles!")


def _write(directory: bytes, contents: dict[bytes, bytes]) -> None:
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
    except OSError as error:
        raise DepmodError(f"could not create directory {os.fsdecode(directory)}: {error.strerror}") from error
    try:
        replace_files(directory, contents)
    except FileError as failed:
        raise DepmodError(f"could not write {os.fsdecode(failed.path)}: {failed.error.strerror}") from failed
