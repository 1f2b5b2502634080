# SPDX-License-Identifier: MIT
"""What a name is: loaded, on disk, built in, an alias, blacklisted or forbidden, or nothing that is known."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

from lkm.boot.builtin import read_builtins
from lkm.boot.initcall import Initcall
from lkm.boot.source import InitcallTable, find_initcalls, is_running
from lkm.errors import LkmError, UsageError
from lkm.formats.command_line import parse_initcall_blacklist, parse_module_blacklist
from lkm.formats.modprobe_conf import Directive
from lkm.names import ModuleName, module_name, module_name_from_path
from lkm.root import Root
from lkm.system.files import list_directory, read_bytes, read_number, read_text
from lkm.tree.match import FROM_NAME
from lkm.tree.tree import Tree

__all__ = ["Line", "Presence", "Where", "check_name", "read_aliases", "read_where"]

NEAREST = 5
BUILTIN = "modules.builtin"


class Line(NamedTuple):
    """A line of a configuration that says something of a module: where it stands, and what it says."""

    place: str
    text: str


class Presence(NamedTuple):
    """What is known of one module.

    `alias` and `source` are how the name led to it: by its own name, alias and source are "". `state` is that
    of /sys/module (`live`, `coming`, `going`), "" if it is not loaded. `builtin_by` says who has it as built in:
    files, or `initcalls`; nobody where modules.dep has it and modules.builtin has not: then `initcalls`, and what
    /sys has, are of other built-in code whose KBUILD_MODNAME is the same, as of arch/x86/kernel/kvm.c and the
    module kvm. `state`, `refcnt` and `kernel_blacklist` are those of the running kernel. `blacklisted` holds for
    its aliases only, `forbidden` (itself, or what it needs) for every way of modprobe's, `kernel_blacklist`
    (`module_blacklist=` on the command line) for every load; `initcall_blacklist` are those of its initcalls that
    were not called, because `initcall_blacklist=` names them.
    """

    module: ModuleName
    alias: str = ""
    source: str = ""
    state: str = ""
    refcnt: Optional[int] = None
    path: str = ""
    missing: bool = False
    """modules.dep has the file, and it is not there."""
    builtin_by: tuple[str, ...] = ()
    initcalls: tuple[Initcall, ...] = ()
    aliases: tuple[str, ...] = ()
    blacklisted: Optional[Line] = None
    forbidden: Optional[Line] = None
    install: Optional[Line] = None
    kernel_blacklist: bool = False
    initcall_blacklist: tuple[str, ...] = ()
    other_releases: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether this kernel has it in some way."""
        return bool(self.state or self.path or self.builtin_by or self.install)


class Where(NamedTuple):
    """The answer. `presences` has one module, several where an alias means several; `nearest` are names like
    one that is unknown; `note` says what could not be looked at."""

    name: str
    release: str
    presences: tuple[Presence, ...]
    nearest: tuple[str, ...] = ()
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether the name means anything here."""
        return any(presence.known for presence in self.presences)


def read_where(root: Root, name: str, table: Optional[InitcallTable] = None) -> Where:
    """What `name`, a module, an alias or a file's path, is for the kernel `root.release`.

    `table` is its initcalls where they are known already, as those of an image that was named.
    UsageError for what can be no name, LkmError for a kernel that does not run and has no tree.
    """
    asked = module_name_from_path(name) if "/" in name or name.endswith(".ko") else name
    check_name(asked)
    running = is_running(root)
    if not running and table is None and not os.path.isdir(root.modules_dir):
        raise LkmError(f"{root.release} does not run, and has no tree {root.modules_dir}")
    tree = Tree(root)
    calls, note = find_initcalls(root, table, running=running)
    if not Tree.is_name(asked):  # a bracket without its partner is in no name
        return Where(asked, root.release, (Presence(module_name(asked)),), note=note)
    matches = tree.lookup(asked)
    known = [(ModuleName(match.name), match.alias, match.source) for match in matches]
    own = module_name(asked)
    if not known:
        known = [(own, "", "")]
    builtins = _builtins(root)
    presences = tuple(
        _presence(
            _on_disk(root, tree, module, alias, "" if source == FROM_NAME or module == own else source),
            root,
            builtins,
            calls,
            running=running,
        )
        for module, alias, source in known
    )
    found = Where(asked, root.release, presences, note=note)
    if not found.known:
        found = found._replace(nearest=_nearest(own, tree, calls))
    return found


def check_name(name: str) -> None:
    """UsageError for what names nothing, and below /sys/module is a folder all the same."""
    if module_name(name) in ("", ".", ".."):
        raise UsageError(f"{name!r} is no name of a module")


def _builtins(root: Root) -> dict[str, str]:
    """Each built-in module with the file that has it."""
    return {
        name: BUILTIN if builtin.path else "modules.builtin.modinfo"
        for name, builtin in read_builtins(root).items()
    }


def _presence(
    presence: Presence,
    root: Root,
    builtins: dict[str, str],
    calls: tuple[Initcall, ...],
    *,
    running: bool,
) -> Presence:
    """What stands on the disk, with what the kernel has: its initcalls, and if it runs its state."""
    module = presence.module
    own = tuple(call for call in calls if call.module == module)
    presence = presence._replace(initcalls=own)
    base = root.join(f"/sys/module/{module}")
    state = (read_text(f"{base}/initstate") or "") if running else ""
    if running:
        command_line = read_text(root.join("/proc/cmdline")) or ""
        left_out = {*parse_initcall_blacklist(command_line)}
        presence = presence._replace(
            state=state,
            refcnt=read_number(f"{base}/refcnt"),
            kernel_blacklist=module in parse_module_blacklist(command_line),
            initcall_blacklist=tuple(call.function for call in own if call.function in left_out),
        )
    if presence.path and builtins.get(module) != BUILTIN:
        return presence
    by = [builtins[module]] if module in builtins else []
    if own:
        by.append("initcalls")
    if running and not state and os.path.isdir(base):  # param_sysfs_builtin: it has parameters or a version
        by.append(f"/sys/module/{module}")
    return presence._replace(builtin_by=tuple(by))


def _on_disk(root: Root, tree: Tree, module: ModuleName, alias: str, source: str) -> Presence:
    path = tree.path(module) or ""
    here = os.path.exists(path) if path else False
    install = tree.install_command(module)
    return Presence(
        module=module,
        alias=alias,
        source=source,
        path=path,
        missing=bool(path) and not here,
        aliases=read_aliases(root, module),
        blacklisted=_line(tree.blacklisted(module)),
        forbidden=_line(_forbidden(tree, module)),
        install=_line(install),
        other_releases=() if path else _other_releases(root, module),
    )


def _forbidden(tree: Tree, module: ModuleName) -> Optional[Directive]:
    """What forbids it, or one of the modules that a load of it needs."""
    if not tree.config.forbid:
        return None
    names = (module, *tree.dependencies(module))
    return next((found for name in names for found in [tree.forbidden(name)] if found), None)


def read_aliases(root: Root, module: ModuleName) -> tuple[str, ...]:
    """The aliases that it brings itself, out of the text of modules.alias: the index would be read as a whole."""
    data = read_bytes(os.path.join(root.modules_dir, "modules.alias")) or b""
    rows = re.findall(rb"^alias (\S+) " + re.escape(os.fsencode(module)) + rb"$", data, re.MULTILINE)
    return tuple(os.fsdecode(row) for row in rows)


def _line(directive: Optional[Directive]) -> Optional[Line]:
    if directive is None:
        return None
    words = (directive.command, directive.name, directive.value)
    return Line(directive.where, " ".join(word for word in words if word))


def _other_releases(root: Root, module: ModuleName) -> tuple[str, ...]:
    """The kernels whose trees have it: the machine may run another one than was installed last."""
    others = [release for release in list_directory(root.join("/lib/modules")) if release != root.release]
    return tuple(release for release in others if Tree(root.path, release).path(module))


def _nearest(name: ModuleName, tree: Tree, calls: tuple[Initcall, ...]) -> tuple[str, ...]:
    import difflib

    names = {*tree.names(), *tree.builtin_names(), *(call.module for call in calls if call.module)}
    parts = sorted(each for each in names if name in each)
    close = difflib.get_close_matches(name, sorted(names), n=NEAREST, cutoff=0.7)
    return tuple(dict.fromkeys([*close, *parts]))[:NEAREST]
