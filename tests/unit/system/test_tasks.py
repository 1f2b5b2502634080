# SPDX-License-Identifier: MIT
"""Which threads matter, what their calls are about, and how little may be left of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lkm.names import ModuleName
from lkm.system.snapshot import LoadedModule, MemoryRange, ModuleState, TaskFrame
from lkm.system.tasks import parse_frames, read_tasks, why_no_stacks
from tests.builders import make_module
from tests.unit.system.trees import Tree

DEMO = LoadedModule(ModuleName("demo"), ModuleState.LIVE, 0, 4096)
COMING = LoadedModule(ModuleName("demo"), ModuleState.COMING, 1, 4096)
IN_MODULE = "[<0>] demo_work+0x12/0x40 [demo]\n[<0>] kthread+0xda/0x100\n"
IN_INIT = (
    "[<0>] msleep+0x29/0x30\n[<0>] demo_init+0x26/0x1000 [demo]\n"
    "[<0>] do_init_module+0x4a/0x220\n[<0>] __do_sys_finit_module+0xac/0x120\n"
)
IN_REMOVAL = "[<0>] demo_exit+0x18/0x20 [demo]\n[<0>] __do_sys_delete_module.constprop.0+0x1b9/0x310\n"
ASLEEP = "[<0>] do_nanosleep+0x1/0x2\n[<0>] __x64_sys_nanosleep+0x1/0x2\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(str(tmp_path))


def test_thread_in_module_code(tree: Tree) -> None:
    tree.thread(50, command="demo worker (1)", kernel=True, stack=IN_MODULE)
    tree.thread(51, stack=ASLEEP, syscall="35 0x0 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f")
    (task,) = read_tasks(tree.root, [DEMO])
    assert (task.pid, task.tid, task.command, task.kernel) == (50, 50, "demo worker (1)", True)
    assert task.stack[0] == TaskFrame("demo_work", 0x12, ModuleName("demo"))
    assert task.call == ""


def test_threads_beside_the_first(tree: Tree) -> None:
    tree.thread(50, stack=ASLEEP)
    tree.thread(50, tid=52, stack=IN_MODULE)
    assert [(task.pid, task.tid) for task in read_tasks(tree.root, [DEMO])] == [(50, 52)]


@pytest.mark.parametrize("state", ["Z", "X"])
def test_the_dead_are_not_listed(tree: Tree, state: str) -> None:
    tree.thread(50, state=state, stack=IN_INIT)
    assert read_tasks(tree.root, [COMING]) == ()


DYING = (
    "[<0>] ptrace_stop.part.0+0x170/0x330\n[<0>] ptrace_notify+0x7c/0xfc\n[<0>] do_exit+0x840/0x9f0\n"
    "[<0>] make_task_dead+0x90/0x190\n[<0>] die+0x290/0x2d0\n[<0>] el1h_64_sync+0x64/0x68\n"
)


@pytest.mark.parametrize(
    ("stack", "syscall"), [(IN_INIT, "273 0x3"), (IN_REMOVAL, "106 0x40"), (IN_MODULE, "273 0x3")]
)
def test_who_was_killed_by_an_oops_and_is_held_up_in_its_end_is_dead(
    tree: Tree, stack: str, syscall: str
) -> None:
    tree.thread(50, state="t", stack=DYING + stack, syscall=f"{syscall} 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f")
    assert read_tasks(tree.root, [COMING], machine="aarch64") == ()


def test_what_runs_in_a_module_at_its_end_is_alive(tree: Tree) -> None:
    release = "[<0>] demo_release+0x18/0x20 [demo]\n[<0>] __fput+0x8c/0x250\n"
    tree.thread(50, state="D", stack=release + DYING + IN_INIT)
    (task,) = read_tasks(tree.root, [DEMO])
    assert [frame.function for frame in task.stack] == [
        "demo_release", "__fput", "ptrace_stop", "ptrace_notify", "do_exit"
    ]  # fmt: skip
    assert task.is_in(ModuleName("demo"))


def test_finit_module_is_about_its_file(tree: Tree) -> None:
    base = tree.thread(
        50, stack=IN_INIT, syscall="313 0x3 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f", command_line="insmod x.ko"
    )
    file = tree.write("/srv/demo.ko", make_module("demo", imports=("printk", "provider_answer")))
    tree.link(f"{base}/fd/3", file)
    (task,) = read_tasks(tree.root, [COMING], samples=1, machine="x86_64")
    assert (task.call, task.subject) == ("finit_module", "demo")
    assert task.subject_imports == ("printk", "provider_answer")
    assert task.command_line == "insmod x.ko"


def test_init_module_is_about_its_image(tree: Tree) -> None:
    image = make_module("demo", imports=("printk",))
    stack = "[<0>] load_module+0x2012/0x2300\n[<0>] __do_sys_init_module+0x17f/0x1c0\n"
    base = tree.thread(50, stack=stack, syscall=f"105 0x1000 {len(image):#x} 0x0 0x0 0x0 0x0 0x7f 0x7f")
    tree.write(f"{base}/mem", b"\0" * 0x1000 + image)
    (task,) = read_tasks(tree.root, [COMING], samples=1, machine="aarch64")
    assert (task.call, task.subject, task.subject_imports) == ("init_module", "demo", ("printk",))


def test_delete_module_is_about_its_name(tree: Tree) -> None:
    base = tree.thread(50, stack=IN_REMOVAL, syscall="176 0x40 0x800 0x0 0x0 0x0 0x0 0x7f 0x7f")
    tree.write(f"{base}/mem", b"\xff" * 0x40 + b"demo-x\0rest")
    (task,) = read_tasks(tree.root, [DEMO], samples=1, machine="x86_64")
    assert (task.call, task.subject) == ("delete_module", "demo_x")


@pytest.mark.parametrize(
    ("command_line", "subject"),
    [
        ("insmod /srv/my-demo.ko.xz die=1", "my_demo"),
        ("/sbin/rmmod -f demo", "demo"),
        ("modprobe -r demo", "demo"),
        ("modprobe demo other", ""),
        ("python3 tool.py", ""),
        ("", ""),
    ],
)
def test_command_line_makes_a_guess_where_arguments_are_hidden(
    tree: Tree, command_line: str, subject: str
) -> None:
    tree.thread(50, stack=IN_REMOVAL, syscall="", command_line=command_line)
    (task,) = read_tasks(tree.root, [DEMO], samples=1)
    assert (task.call, task.subject, task.subject_guess) == ("delete_module", "", subject)


@pytest.mark.parametrize("number", ["313 0x3", "176 0x40", "175 0x40 0x100", "175 0x40 0xffffffffffffffff"])
def test_arguments_that_lead_nowhere(tree: Tree, number: str) -> None:
    base = tree.thread(50, stack=IN_INIT, syscall=f"{number} 0x1 0x0 0x0 0x0 0x0 0x7f 0x7f")
    tree.link(f"{base}/fd/3", "/nonexistent")
    (task,) = read_tasks(tree.root, [DEMO], samples=1, machine="x86_64")
    assert task.subject == ""
    assert task.call


def test_file_that_is_no_module(tree: Tree) -> None:
    base = tree.thread(50, stack=IN_INIT, syscall="313 0x3 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f")
    tree.link(f"{base}/fd/3", tree.write("/srv/text", b"\x7fELF, or is it?"))
    (task,) = read_tasks(tree.root, [COMING], samples=1, machine="x86_64")
    assert (task.call, task.subject, task.subject_imports) == ("finit_module", "", ())


def test_hidden_stack_is_replaced_by_the_call(tree: Tree) -> None:
    tree.thread(50, stack="", syscall="176 0x40 0x800 0x0 0x0 0x0 0x0 0x7f 0x7f")
    tree.thread(51, stack="", syscall="running")
    tree.thread(52, stack="", syscall="-1 0x0 0x0")
    tasks = read_tasks(tree.root, [DEMO], samples=1, machine="x86_64")
    assert [(task.pid, task.call) for task in tasks] == [(50, "delete_module")]


def test_reader_of_proc_modules_is_told_from_other_readers(tree: Tree) -> None:
    stack = "[<0>] __mutex_lock+0x1/0x2\n[<0>] m_start+0x1a/0x30\n[<0>] seq_read_iter+0x1/0x2\n"
    for pid, path in ((50, "/proc/modules"), (51, "/proc/mounts")):
        base = tree.thread(pid, stack=stack)
        tree.link(f"{base}/fd/3", path)
    assert [task.pid for task in read_tasks(tree.root, [DEMO])] == [50]


def test_own_process_and_children(tree: Tree) -> None:
    """Our readers do not matter; a removal that one of our children makes does."""
    tree.thread(50, stack=IN_MODULE)
    tree.thread(51, parent=50, stack=IN_MODULE)
    tree.thread(52, parent=50, stack=IN_REMOVAL)
    assert [task.pid for task in read_tasks(tree.root, [DEMO], own_pid=50)] == [52]


def test_thread_that_ends_while_it_is_read(tree: Tree) -> None:
    base = tree.thread(50, stack=IN_MODULE)
    os.unlink(tree.root.join(f"{base}/stat"))
    tree.directory("/proc/51/task/51")
    tree.write("/proc/52/task/52/stat", "52 (cut")
    tree.link("/proc/53", "nowhere")
    assert read_tasks(tree.root, [DEMO]) == ()


def test_samples_are_taken_while_something_changes(tree: Tree) -> None:
    """The stack changes between two samples: frames are united, the later first."""
    base = tree.thread(50, stack="")
    place = tree.root.join(f"{base}/stack")
    os.unlink(place)
    os.symlink("first", place)
    tree.write(f"{base}/first", "[<0>] one+0x1/0x2 [demo]\n")
    tree.write(f"{base}/second", "[<0>] two+0x1/0x2 [demo]\n")

    def change() -> None:
        os.symlink("second", place + ".new")
        os.replace(place + ".new", place)

    timer = threading.Timer(0.04, change)
    timer.start()
    (task,) = read_tasks(tree.root, [COMING], samples=30)
    timer.join()
    assert [frame.symbol for frame in task.stack] == ["two", "one"]
    assert [frame.symbol for frame in task.now] == ["two"]


IN_SYSFS = "[<0>] kernfs_remove_by_name_ns+0x1/0x2\n[<0>] device_del+0x1/0x2\n"


def change_between(monkeypatch: pytest.MonkeyPatch, path: str, text: str) -> None:
    """Another text in the file after the first look."""
    monkeypatch.setattr("time.sleep", lambda _: Path(path).write_text(text, encoding="utf-8"))


def test_who_stays_blocked_in_sysfs_matters(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes through does not."""
    tree.thread(50, state="D", stack=IN_SYSFS)
    tree.thread(51, state="S", stack=IN_SYSFS)
    passing = tree.thread(52, state="D", stack=IN_SYSFS)
    assert [task.pid for task in read_tasks(tree.root, [DEMO], samples=1)] == [50, 52]
    change_between(monkeypatch, tree.root.join(f"{passing}/stack"), ASLEEP)
    assert [task.pid for task in read_tasks(tree.root, [DEMO], samples=2)] == [50]


def test_of_who_has_left_nothing_is_there_now(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tree.thread(50, stack=IN_MODULE)
    change_between(monkeypatch, tree.root.join(f"{base}/stack"), ASLEEP)
    (task,) = read_tasks(tree.root, [COMING], samples=2)
    assert task.stack
    assert task.now == ()


def test_frames() -> None:
    module = LoadedModule(
        ModuleName("demo"), ModuleState.LIVE, 0, 4096, memory=(MemoryRange(0xFFFFFFFFC0000000, 4096, "core"),)
    )
    text = (
        "[<0>] demo_work+0x12/0x40 [demo 0123456789abcdef]\n"
        "[<0>] 0xffffffffc0000010\n"
        "[<0>] 0xffffffffc1000010\n"
        "[<0>] bpf_prog_123_x+0x1/0x2 [bpf]\n"
        "garbage\n"
        "[<0>] ret_from_fork+0x22/0x30\n"
    )
    assert [(frame.symbol, frame.module) for frame in parse_frames(text, [module])] == [
        ("demo_work", "demo"),
        ("0xffffffffc0000010", "demo"),
        ("0xffffffffc1000010", None),
        ("bpf_prog_123_x", None),
        ("ret_from_fork", None),
    ]


def test_why_no_stacks(tree: Tree) -> None:
    assert "CONFIG_STACKTRACE" in why_no_stacks(tree.root)
    tree.write("/proc/self/stack", "")
    assert why_no_stacks(tree.root) == ""


def test_stacks_that_are_refused(tree: Tree) -> None:
    tree.directory("/proc/self/stack")  # EISDIR stands in for EACCES, which root does not get
    assert "root would help" in why_no_stacks(tree.root)


@pytest.mark.parametrize("kernel", [False, True])
def test_a_thread_that_spins_in_the_kernel_is_listed_as_unreadable(tree: Tree, kernel: bool) -> None:
    """Its time in the kernel grows, and it is readable at no look."""
    tree.thread(50, state="R", stack="", syscall="running", kernel=kernel)
    timer = threading.Timer(
        0.1,
        lambda: tree.thread(50, state="R", stack="", syscall="running", kernel=kernel, system_time=9),
    )
    timer.start()
    tasks = read_tasks(tree.root, [COMING])
    timer.join()
    assert [(task.pid, task.unreadable, task.kernel) for task in tasks] == [(50, True, kernel)]


def test_a_thread_that_runs_in_user_space_is_none_of_ours(tree: Tree) -> None:
    tree.thread(50, state="R", stack="", syscall="running")
    assert read_tasks(tree.root, [COMING]) == ()


def test_a_thread_that_was_readable_once_is_none_of_ours(tree: Tree) -> None:
    tree.thread(50, state="R", stack="", syscall="running")

    def settle() -> None:
        tree.thread(50, state="S", stack="[<0>] do_wait+0x1/0x2\n", syscall="61 0x0 0x0", system_time=9)

    timer = threading.Timer(0.1, settle)
    timer.start()
    assert read_tasks(tree.root, [COMING]) == ()
    timer.join()


def test_a_modules_own_do_exit_is_no_end_of_a_task() -> None:
    text = "[<0>] msleep+0x1/0x2\n[<0>] do_exit+0x1/0x2 [mydrv]\n[<0>] __do_sys_delete_module+0x1/0x2\n"
    assert [frame.function for frame in parse_frames(text)][-1] == "__do_sys_delete_module"
