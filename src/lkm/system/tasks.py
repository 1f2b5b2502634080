# SPDX-License-Identifier: MIT
"""Live threads in module code, in the module loader, or waiting for it, from /proc/PID/task/TID.

Only their stacks tell a loader that is alive from one that an oops has killed. A stack needs CAP_SYS_ADMIN
(`proc_pid_stack`, fs/proc/base.c, 6.1), and that of a thread which runs on a CPU at this moment is
unreliable, so several samples are united where it matters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from lkm.errors import KernelCallError, ParseError
from lkm.formats.stack import parse_stack
from lkm.root import Root
from lkm.system.calls import syscall_numbers
from lkm.system.files import list_directory, process_ids, read_bytes, read_link, read_text
from lkm.system.module_call import ModuleCall, read_module_call
from lkm.system.snapshot import LoadedModule, ModuleState, Task, TaskFrame

__all__ = ["LOADER_FUNCTIONS", "SYSFS_FUNCTIONS", "parse_frames", "read_tasks", "why_no_stacks"]

LOADER_FUNCTIONS = frozenset(
    (
        "load_module",
        "do_init_module",
        "init_module_from_file",
        "idempotent",
        "idempotent_init_module",
        "idempotent_wait_for_completion",
        "add_unformed_module",
        "module_patient_check_exists",
        "resolve_symbol_wait",
        "free_module",
        "try_stop_module",
        "async_synchronize_full",
        "async_synchronize_full_domain",
        "async_synchronize_cookie",
        "async_synchronize_cookie_domain",
        "async_run_entry_fn",
        "modules_open",
    )
)
"""Functions of kernel/module and kernel/async.c, 5.10 to 7.x, that make a thread matter here."""

SYSFS_FUNCTIONS = ("kernfs_", "__kernfs_", "sysfs_", "kobject_uevent")
"""How the functions of fs/kernfs, fs/sysfs and lib/kobject_uevent.c begin."""

_DEEPEST = 4
"""Frames in which that is looked for: below a waiting primitive or two."""

_CALLS = ("finit_module", "init_module", "delete_module")
_PF_KTHREAD = 0x00200000
_PAUSE = 0.03  # seconds between two samples
_SPIN_LOOKS = 10
"""Looks at a thread that could not be read: in 0.3 s all but one that spins have been somewhere readable."""


class _Stat(NamedTuple):
    """Fields of /proc/PID/stat. `start` (ticks since boot) tells a thread from another of its number."""

    command: str
    state: str
    parent: int
    flags: int
    system_time: int
    start: int


_Key = tuple[int, int, int]  # process, thread, start


def read_tasks(
    root: Root,
    modules: Sequence[LoadedModule],
    *,
    samples: int = 3,
    own_pid: Optional[int] = None,
    machine: str = "",
) -> tuple[Task, ...]:
    """The threads that matter, by process and thread number.

    Up to `samples` looks are taken, 30 ms apart, where a module is coming or going or a load or removal is
    in progress; frames are united, and threads that have ended in between are left out. The process
    `own_pid` (by default this one) is not listed, nor its children, unless one loads or removes a module.
    Hidden stacks are no error: see `why_no_stacks`.
    """
    look = _Look(root, modules, os.getpid() if own_pid is None else own_pid, machine)
    found = look.take()
    changing = any(module.state is not ModuleState.LIVE for module in modules)
    for _ in range(samples - 1):
        if not changing and not any(_in_loader(task) or _only_in_sysfs(task) for task in found.values()):
            break
        time.sleep(_PAUSE)
        found = _merged(found, look.take())
    if changing or any(module.permanent for module in modules):
        found.update(look.spinning())
    alive = {key: task for key, task in found.items() if look.is_alive(key)}
    return tuple(alive[key] for key in sorted(alive))


def why_no_stacks(root: Root) -> str:
    """A sentence on why the stacks of tasks cannot be read, or "" if they can."""
    path = root.join("/proc/self/stack")
    try:
        with open(path, "rb") as file:
            file.read()
    except FileNotFoundError:
        return "the kernel shows no stacks of tasks (no /proc/PID/stack: CONFIG_STACKTRACE is off)"
    except OSError as error:
        return f"stacks of tasks cannot be read ({error.strerror}): root would help"
    return ""


def parse_frames(text: str, modules: Iterable[LoadedModule] = ()) -> tuple[TaskFrame, ...]:
    """The frames of a /proc/PID/stack, innermost first; lines that are none are left out.

    So is what lies beyond the kernel's do_exit, which never returns. A task that an oops has killed, and that
    is held up in its end, still has the frames of its death there on arm64 (`die` calls `make_task_dead` on the
    same stack, 6.1), though not on x86 (`rewind_stack_and_make_dead`).

    A bare address, as of code whose symbols are gone, is its own symbol (`0x…`), and is looked up in the
    memory of `modules`. `[bpf]` and `[__builtin__ftrace]` are no modules.
    """
    known = tuple(modules)
    frames = []
    for line in text.splitlines():
        try:
            parsed = parse_stack(line)
        except ParseError:
            continue
        for frame in parsed:
            owner, at = frame.module, frame.raw_address
            if owner and (owner == "bpf" or owner.startswith("__builtin__")):
                owner = None
            if at is not None and owner is None:
                owner = next((module.name for module in known if module.owns(at)), None)
            frames.append(TaskFrame(frame.symbol if at is None else hex(at), frame.offset, owner))
            if frames[-1].function == "do_exit" and frames[-1].module is None:
                return tuple(frames)
    return tuple(frames)


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


class _Look:
    """One reader of all threads, with what stays the same from sample to sample."""

    def __init__(self, root: Root, modules: Sequence[LoadedModule], own_pid: int, machine: str) -> None:
        self._root = root
        self._modules = modules
        self._own = own_pid
        self._calls: dict[tuple[_Key, str], ModuleCall] = {}
        self._opaque: Optional[dict[_Key, _Stat]] = None
        try:
            self._numbers = {number: name for name, number in syscall_numbers(machine).items()}
        except KernelCallError:
            self._numbers = {}

    def take(self) -> dict[_Key, Task]:
        """Every thread that matters at this moment."""
        found = {}
        opaque: dict[_Key, _Stat] = {}
        for process in process_ids(self._root):
            if process == self._own:
                continue
            for thread in list_directory(self._root.join(f"/proc/{process}/task")):
                base = self._root.join(f"/proc/{process}/task/{thread}")
                stat = _read_stat(f"{base}/stat")
                if stat is None:
                    continue
                key = (process, int(thread), stat.start)
                task = self._read(base, process, int(thread), stat)
                if task is None:
                    continue
                if task.unreadable:
                    opaque[key] = self._opaque.get(key, stat) if self._opaque is not None else stat
                else:
                    found[key] = task
        # Only what could be read at no look is opaque: a load or removal leaves its call for nothing else.
        self._opaque = {k: opaque[k] for k in opaque if self._opaque is None or k in self._opaque}
        return found

    def spinning(self) -> dict[_Key, Task]:
        """Threads that could not be read at any of many looks, and spent time in the kernel all the while."""
        for _ in range(_SPIN_LOOKS):
            if not self._opaque:
                return {}
            time.sleep(_PAUSE)
            self.take()
        found = {}
        for key, first in (self._opaque or {}).items():
            now = _read_stat(self._root.join(f"/proc/{key[0]}/task/{key[1]}/stat"))
            if now and now.system_time > first.system_time:
                kernel = bool(now.flags & _PF_KTHREAD)
                found[key] = Task(key[0], key[1], now.command, now.state, kernel, (), unreadable=True)
        return found

    def is_alive(self, key: _Key) -> bool:
        """Whether that very thread still exists and has not ended."""
        stat = _read_stat(self._root.join(f"/proc/{key[0]}/task/{key[1]}/stat"))
        return stat is not None and stat.start == key[2]

    def _read(self, base: str, pid: int, tid: int, stat: _Stat) -> Optional[Task]:
        kernel = bool(stat.flags & _PF_KTHREAD)
        text = read_text(f"{base}/stack")
        stack = parse_frames(text or "", self._modules)
        name = _call_in(stack)
        arguments: tuple[int, ...] = ()
        running = kernel
        if not kernel and (name or not stack):
            running = read_text(f"{base}/syscall") == "running"
            name, arguments = self._read_syscall(f"{base}/syscall", name)
        if stat.state == "R" and text == "" and not name and running:
            return Task(pid, tid, stat.command, stat.state, kernel, (), unreadable=True)
        if not name and stat.parent == self._own:
            return None
        if not name and not self._matters(base, stack) and not (stat.state == "D" and _in_sysfs(stack)):
            return None
        task = Task(
            pid=pid,
            tid=tid,
            command=stat.command,
            state=stat.state,
            kernel=kernel,
            stack=stack,
            command_line="" if kernel else _command_line(f"{base}/cmdline"),
            call=name,
        )
        if not name:
            return task
        about = self._about((pid, tid, stat.start), task, arguments)
        return task._replace(subject=about.subject, subject_imports=about.imports, subject_guess=about.guess)

    def _about(self, key: _Key, task: Task, arguments: tuple[int, ...]) -> ModuleCall:
        """What the call is about, read once: a file of megabytes does not change from sample to sample."""
        known = self._calls.get((key, task.call))
        if known is None or not known.subject:
            known = read_module_call(self._root, task, arguments)
            self._calls[key, task.call] = known
        return known

    def _read_syscall(self, path: str, name: str) -> tuple[str, tuple[int, ...]]:
        """The call and its arguments, `NR arg0 arg1 … sp pc`; of a running thread they are not known."""
        words = (read_text(path) or "").split()
        if len(words) < 7 or not words[0].isdigit():
            return name, ()
        found = self._numbers.get(int(words[0]), "")
        return (found, tuple(_hex(word) for word in words[1:7])) if found else (name, ())

    def _matters(self, base: str, stack: tuple[TaskFrame, ...]) -> bool:
        if any(frame.module or frame.function in LOADER_FUNCTIONS for frame in stack):
            return True
        # m_start is also the name of the readers of /proc/mounts and /proc/PID/maps.
        if any(frame.function == "m_start" for frame in stack):
            names = list_directory(f"{base}/fd")
            return any(read_link(f"{base}/fd/{name}").endswith("/proc/modules") for name in names)
        return False


def _read_stat(path: str) -> Optional[_Stat]:
    """None for a thread that is gone, a zombie or dead."""
    data = read_bytes(path)
    if not data:
        return None
    head, _, tail = data.decode("utf-8", "backslashreplace").rpartition(")")
    fields = tail.split()
    try:
        stat = _Stat(
            head.partition("(")[2],
            fields[0],
            int(fields[1]),
            int(fields[6]),
            int(fields[12]),
            int(fields[19]),
        )
    except (IndexError, ValueError):
        return None
    return None if stat.state in {"Z", "X", "x"} else stat


def _call_in(stack: tuple[TaskFrame, ...]) -> str:
    """The system call that a stack ends in: `__do_sys_…`, `__x64_sys_…`, `__arm64_sys_…`, `__se_sys_…`."""
    for frame in stack:
        _, found, name = frame.function.partition("sys_")
        if found and name in _CALLS:
            return name
    return ""


def _in_sysfs(stack: tuple[TaskFrame, ...]) -> bool:
    """Whether it is at work on the tree of sysfs: asleep there, it may hold what a rename has to wait for."""
    return any(frame.function.startswith(SYSFS_FUNCTIONS) for frame in stack[:_DEEPEST])


def _in_loader(task: Task) -> bool:
    return bool(task.call) or task.has_frame(*LOADER_FUNCTIONS)


def _command_line(path: str) -> str:
    return " ".join((read_text(path) or "").replace("\0", " ").split())


def _only_in_sysfs(task: Task) -> bool:
    return not _in_loader(task) and not any(frame.module for frame in task.stack) and _in_sysfs(task.stack)


def _merged(before: dict[_Key, Task], now: dict[_Key, Task]) -> dict[_Key, Task]:
    """The threads of several looks; those that are only at work on sysfs where they are so at every look."""
    merged = {
        key: task._replace(older=len(task.stack))
        for key, task in before.items()
        if key not in now and not _only_in_sysfs(task)
    }
    for key, task in now.items():
        if key in before:
            merged[key] = _united(before[key], task)
        elif not _only_in_sysfs(task):
            merged[key] = task
    return merged


def _united(first: Task, later: Task) -> Task:
    """One task of two looks at it: state of the later, frames of both, the later's first."""
    more = tuple(frame for frame in first.stack if frame not in later.stack)
    return later._replace(
        stack=later.stack + more,
        older=len(more),
        call=later.call or first.call,
        subject=later.subject or first.subject,
        subject_imports=later.subject_imports or first.subject_imports,
        subject_guess=later.subject_guess or first.subject_guess,
    )
