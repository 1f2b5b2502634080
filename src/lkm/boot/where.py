# SPDX-License-Identifier: MIT
"""What a name is: loaded, on disk, built in, an alias, blacklisted or forbidden, or nothing that is known."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

from lkm.boot.builtin import read_builtins
from lkm.boot.initcall import Initcall
from lkm.boot.source import read_initcalls
from lkm.errors import LkmError
from lkm.formats.modprobe_conf import Directive
from lkm.names import ModuleName, module_name, module_name_from_path
from lkm.root import Root
from lkm.system.files import list_directory, read_bytes, read_number, read_text
from lkm.tree.match import FROM_NAME
from lkm.tree.tree import Tree

__all__ = ["Line", "Presence", "Where", "read_aliases", "read_where"]

NEAREST = 5


class Line(NamedTuple):
    """A line of a configuration that says something of a module: where it stands, and what it says."""

    place: str
    text: str


class Presence(NamedTuple):
    """What is known of one module.

    `alias` and `source` are how the name led to it: by its own name, alias and source are "". `state` is that
    of /sys/module (`live`, `coming`, `going`), "" if it is not loaded. `builtin_by` says who has it as built in:
    files, or `initcalls`. `blacklisted` holds for its aliases only, `forbidden` for every way of modprobe's,
    `kernel_blacklist` (`module_blacklist=` on the command line) for every load.
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


def read_where(root: Root, name: str) -> Where:
    """What `name`, a module, an alias or a file's path, is for the kernel `root.release`."""
    asked = module_name_from_path(name) if "/" in name or name.endswith(".ko") else name
    tree = Tree(root)
    calls, note = _initcalls(root)
    if not Tree.is_name(asked):  # a bracket without its partner is in no name
        return Where(asked, root.release, (Presence(module_name(asked)),), note=note)
    matches = tree.lookup(asked)
    known = [(ModuleName(match.name), match.alias, match.source) for match in matches]
    own = module_name(asked)
    if not known:
        known = [(own, "", "")]
    builtins = _builtins(root)
    presences = tuple(
        _presence(root, tree, module, alias, "" if source == FROM_NAME or module == own else source)._replace(
            builtin_by=_builtin_by(root, module, builtins, calls),
            initcalls=tuple(call for call in calls if call.module == module),
        )
        for module, alias, source in known
    )
    found = Where(asked, root.release, presences, note=note)
    if not found.known:
        found = found._replace(nearest=_nearest(own, tree, calls))
    return found


def _initcalls(root: Root) -> tuple[tuple[Initcall, ...], str]:
    running = read_text(root.join("/proc/sys/kernel/osrelease")) in (None, root.release)
    try:
        return read_initcalls(root, running=running).initcalls, ""
    except LkmError as error:
        return (), str(error)


def _builtins(root: Root) -> dict[str, str]:
    """Each built-in module with the file that has it."""
    return {
        name: "modules.builtin" if builtin.path else "modules.builtin.modinfo"
        for name, builtin in read_builtins(root).items()
    }


def _builtin_by(
    root: Root, module: ModuleName, builtins: dict[str, str], calls: tuple[Initcall, ...]
) -> tuple[str, ...]:
    found = [builtins[module]] if module in builtins else []
    if any(call.module == module for call in calls):
        found.append("initcalls")
    folder = root.join(f"/sys/module/{module}")
    if os.path.isdir(folder) and not os.path.exists(f"{folder}/initstate"):
        found.append(
            f"/sys/module/{module}"
        )  # param_sysfs_builtin: built-in code with parameters or a version
    return tuple(found)


def _presence(root: Root, tree: Tree, module: ModuleName, alias: str, source: str) -> Presence:
    base = root.join(f"/sys/module/{module}")
    path = tree.path(module) or ""
    here = os.path.exists(path) if path else False
    install = tree.install_command(module)
    return Presence(
        module=module,
        alias=alias,
        source=source,
        state=read_text(f"{base}/initstate") or "",
        refcnt=read_number(f"{base}/refcnt"),
        path=path,
        missing=bool(path) and not here,
        aliases=read_aliases(root, module),
        blacklisted=_line(tree.blacklisted(module)),
        forbidden=_line(tree.forbidden(module)),
        install=_line(install),
        kernel_blacklist=module in _kernel_blacklist(root),
        other_releases=() if path else _other_releases(root, module),
    )


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


def _kernel_blacklist(root: Root) -> set[str]:
    """The names of `module_blacklist=` (`blacklisted`, kernel/module/main.c)."""
    words = (read_text(root.join("/proc/cmdline")) or "").split()
    lists = [word.partition("=")[2] for word in words if word.startswith("module_blacklist=")]
    return {module_name(name) for text in lists for name in text.split(",")}


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
