# SPDX-License-Identifier: MIT
"""The life of a module on this machine: its file, its state, and what the kernel's messages say of its init."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from lkm.boot.builtin import Builtin, read_builtins
from lkm.boot.initcall import Initcall, Level
from lkm.boot.layout import PAGE
from lkm.boot.life import Kernel, Life, Now, Step, life_of_file
from lkm.boot.messages import Message, parse_events
from lkm.boot.source import InitcallTable, find_initcalls, is_running
from lkm.boot.timeline import Outcome, Run, make_timeline
from lkm.boot.where import check_name, read_aliases
from lkm.errors import LkmError
from lkm.formats.command_line import parse_command_line, parse_initcall_blacklist
from lkm.formats.module import parse_module
from lkm.names import ModuleName, module_name
from lkm.root import Root
from lkm.system.config import read_config
from lkm.system.files import list_directory, read_bytes, read_number, read_text
from lkm.system.kmsg import read_all
from lkm.tree.tree import Tree

__all__ = ["read_life"]

FILE_LIMIT = 1 << 28
_PAGES = {"16K": 1 << 14, "64K": 1 << 16}


def read_life(root: Root, name: str, table: InitcallTable | None = None) -> Life:
    """The life of the module `name`, or of the file `name` (a path, or ending in .ko…).

    `table` is the kernel's initcalls where they are known already, as those of an image that was named.
    State, parameters' values and messages are those of the running kernel: none where `root.release` is another.
    UsageError for what can be no name, LkmError for a name that this kernel knows in no way, ParseError for a
    file that is no module.
    """
    if "/" in name or ".ko" in name:
        return _loadable(root, name, asked=())
    check_name(name)
    own = module_name(name)
    tree = Tree(root)
    path = tree.path(own)
    if not path and not tree.is_builtin(own):
        matches = tree.lookup(name) if Tree.is_name(name) else ()
        own = ModuleName(matches[0].name) if matches else own
        path = tree.path(own)
    if path:
        return _loadable(root, path, asked=_asked(root, tree, own))
    return _built_in(root, own, table)


def _loadable(root: Root, path: str, *, asked: tuple[str, ...]) -> Life:
    data = read_bytes(path, FILE_LIMIT)
    if data is None:
        raise LkmError(f"{path} cannot be read", remedy="is it there? depmod says what is")
    module = parse_module(data, name=path)
    now = _now(root, module.name) if is_running(root) else Now(running=False)
    found = life_of_file(module, path, now, kernel=_kernel(root), asked=asked)
    if not now.running or not read_number(root.join("/proc/sys/kernel/modules_disabled")):
        return found
    shut = "kernel.modules_disabled is set"  # may_init_module and delete_module (kernel/module/main.c, 6.1)
    rows = (row._replace(obstacle=shut) if "_module(2)" in row.by else row for row in found.transitions)
    return found._replace(transitions=tuple(rows))


def _kernel(root: Root) -> Kernel:
    """What decides about memory, of the kernel that runs here or by the configuration of another."""
    config = read_config(root)
    everything = not config or config.get("CONFIG_KALLSYMS_ALL") == "y"
    if root.path == "/" and is_running(root):
        return Kernel(everything, os.sysconf("SC_PAGESIZE"))
    sizes = (size for name, size in _PAGES.items() if config.get(f"CONFIG_ARM64_{name}_PAGES") == "y")
    return Kernel(everything, next(sizes, PAGE))


def _init_blacklist(root: Root) -> tuple[str, ...]:
    return parse_initcall_blacklist(read_text(root.join("/proc/cmdline")) or "")


def _asked(root: Root, tree: Tree, name: ModuleName) -> tuple[str, ...]:
    """What modprobe does before it calls the kernel."""
    lines = []
    needs = tree.dependencies(name)
    lines.append(
        f"it needs {', '.join(needs)}: these are loaded first" if needs else "it needs no other module"
    )
    before, after = tree.softdeps(name)
    lines += [f"softdep: {', '.join(before)} before it"] if before else []
    lines += [f"softdep: {', '.join(after)} after it"] if after else []
    options = tree.options(name)
    lines += [f"options of the configuration: {options}"] if options else []
    aliases = read_aliases(root, name)
    if aliases:
        lines.append(f"by itself for {len(aliases)} aliases, {aliases[0]} for one (modules.alias)")
    install = tree.install_command(name)
    lines += [f"instead of a load: {install.value} ({install.where})"] if install else []
    return tuple(lines)


def _now(root: Root, name: ModuleName) -> Now:
    base = root.join(f"/sys/module/{name}")
    state = read_text(f"{base}/initstate") or ""
    left_out = _init_blacklist(root)
    if not state:
        return Now(init_blacklist=left_out)
    now = Now(
        state,
        read_number(f"{base}/refcnt"),
        tuple(list_directory(f"{base}/holders")),
        read_number(f"{base}/coresize"),
        init_blacklist=left_out,
    )
    told, note = _runs(root, ())
    now = now._replace(note=note)
    runs = [run for run in told if run.kind == "module" and run.module == name]
    if runs and runs[-1].result is not None:
        run = runs[-1]
        return now._replace(
            init_result=run.result,
            init_usecs=run.usecs,
            init_at=run.start,
            told_by="the messages of initcall_debug",
        )
    return now


def _runs(root: Root, table: Sequence[Initcall]) -> tuple[tuple[Run, ...], str]:
    """What the kernel's messages say of calls, and why they cannot be read, or what of them is lost, or ""."""
    try:
        lines, note = read_all(root)
    except LkmError as error:
        return (), str(error)
    return make_timeline(
        parse_events(Message(line.timestamp, line.text, line.caller) for line in lines), table
    ).runs, note


def _built_in(root: Root, name: ModuleName, table: InitcallTable | None) -> Life:
    builtin = read_builtins(root).get(name)
    running = is_running(root)
    everything, note = find_initcalls(root, table, running=running)
    calls = tuple(call for call in everything if call.module == name)
    here = running and os.path.isdir(root.join(f"/sys/module/{name}"))
    if not calls and builtin is None and not here:
        raise LkmError(f"{name}: not loaded, not on disk, not built in", remedy=f"lkm where {name} says more")
    shown = root if running else None
    runs, lost = _runs(root, everything) if running else (None, "")
    left_out = _init_blacklist(root) if running else ()
    steps = (
        Step("it is linked into the kernel", "module_init, include/linux/module.h", _linked(root, builtin)),
        Step("its parameters are set", "parse_args in start_kernel", _parameters(shown, name, builtin)),
        Step("its initcalls are called", _callers(calls), _called(calls, runs, note, lost, left_out)),
        Step("its init code is freed", "free_initmem", ("with that of all others, before /init starts",)),
        Step(
            "it stays",
            "module_exit, include/linux/module.h",
            (
                "its exit is never called; its code goes with the init memory, or the linker has left it out",
                "modprobe does nothing and succeeds; rmmod: is builtin",
            ),
        ),
    )
    now = Now(running=running)
    return Life(name, "built-in", root.release, "", now, None, None, (), (), calls, steps, ())


def _linked(root: Root, builtin: Builtin | None) -> tuple[str, ...]:
    lines = ["there is no file to load, no struct module, and no row in lsmod"]
    if builtin and builtin.path:
        lines.append(f"modules.builtin has it as {builtin.path}")
    elif os.path.exists(os.path.join(root.modules_dir, "modules.builtin")):
        lines.append("modules.builtin does not have it: it could not have been a module")
    else:
        lines.append(
            "whether it could have been a module is not told: there is no modules.builtin of this kernel"
        )
    licences = builtin.values("license") if builtin else ()
    return (*lines, *(f"licence: {text}" for text in licences))


def _parameters(root: Root | None, name: ModuleName, builtin: Builtin | None) -> tuple[str, ...]:
    """Without a `root` only what they are called: the kernel does not run."""
    shown = list_directory(root.join(f"/sys/module/{name}/parameters")) if root else []
    said = parse_command_line(read_bytes(root.join("/proc/cmdline")) or b"") if root else []
    given = [f"{each.name}.{each.value}" for each in said if each.command == "options" and each.name == name]
    names = [each.name for each in builtin.parameters] if builtin else []
    names += [each for each in shown if each not in names]
    if not names:
        return ("it has none",)
    lines = [f"on the kernel's command line, as {name}.{names[0]}=…: {', '.join(names)}"]
    lines += [f"given here: {text}" for text in given]
    for each in shown:
        value = read_text(root.join(f"/sys/module/{name}/parameters/{each}")) if root else ""
        lines += [f"{each} is {value}"] if value else []
    return tuple(lines)


_CALLERS = {
    Level.EARLY_SECURITY: "early_security_init, security/security.c",
    Level.CONSOLE: "console_init, kernel/printk/printk.c",
    Level.SECURITY: "security_init, security/security.c",
    Level.EARLY: "do_pre_smp_initcalls, init/main.c",
}
"""Who calls what `do_initcalls` does not (6.1)."""


def _callers(calls: Sequence[Initcall]) -> str:
    """The functions of the kernel that call them."""
    names = (_CALLERS.get(call.level, "do_initcalls, init/main.c") for call in calls)
    return "; ".join(dict.fromkeys(names)) or "do_initcalls, init/main.c"


def _called(
    calls: Sequence[Initcall],
    told: Sequence[Run] | None,
    note: str,
    lost: str,
    left_out: Collection[str],
) -> tuple[str, ...]:
    """`told` is what messages say, None for a kernel that does not run; `lost` why they do not say more; `left_out`
    the functions of initcall_blacklist=."""
    if note:
        return (f"which they are is not known: {note}",)
    if not calls:
        return ("it has none: its functions are called by others",)
    runs = {run.initcall: run for run in told or () if run.initcall}
    lines = []
    for call in calls:
        line = f", line {call.line} of its source" if call.line else ""
        sure = "" if call.module_from == "symbol" else "; concluded from its name"
        lines.append(f"{call.function or '?'}: level {call.level_text}, order {call.order}{line}{sure}")
        if call.function in left_out:
            lines.append("  not called: initcall_blacklist= on the kernel's command line names it")
        elif told is not None:
            lines.append(f"  {_ran(runs.get(call), lost)}")
    return tuple(lines)


def _ran(run: Run | None, lost: str) -> str:
    if run is None:
        return f"when it ran is not known: {lost or 'boot with initcall_debug'}"
    if run.outcome is Outcome.LOST:
        return f"called at {run.start:.6f} s; what it returned is lost"
    if run.result is None:
        return f"called at {run.start:.6f} s, and not returned"
    return f"called at {run.start:.6f} s, returned {run.result} after {run.usecs} µs"
