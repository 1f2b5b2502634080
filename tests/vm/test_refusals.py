# SPDX-License-Identifier: MIT
"""Where a rescue must not go on: no privilege, hidden addresses, foreign module files, policy, a dead lock.

Each time bug_mod1 is stuck, a plain case otherwise; afterwards it is as it was, and nothing was loaded.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import pytest

from lkm.lab.vm import Guest
from tests.vm.talk import Answer, ask, prepare, run_python, untrue

STUCK = ("dies insmod bug_mod1.ko", "is bug_mod1 coming")
UNTOUCHED = ("is bug_mod1 coming", '[ "$(count_of bug_mod1)" = 1 ]', "! grep -q lkm_helper /proc/modules")

OWN_TREE = (
    "tree=/tmp/tree/$(uname -r)/kernel",
    "mkdir -p $tree",
    "cp /lib/modules/$(uname -r)/kernel/drivers/virtio/*.ko $tree",
    "cp /lib/modules/$(uname -r)/kernel/lib/libcrc32c.ko /tmp",
    "mount --bind /tmp/tree /usr/lib/modules",
    "echo tree=$tree",
)
"""In place of /lib/modules a copy, with the files of some loaded modules only."""

ALTER = """
import glob, re, struct, sys
what, paths = sys.argv[1], [path for pattern in sys.argv[2:] for path in glob.glob(pattern)]
for path in paths:
    data = bytearray(open(path, "rb").read())
    if what == "build-id":
        at = data.index(struct.pack("<III4s", 4, 20, 3, b"GNU")) + 16
        data[at : at + 20] = bytes(byte ^ 0xFF for byte in data[at : at + 20])
    elif what == "release":
        at = re.search(rb"vermagic=\\S+", data).start() + len("vermagic=")
        data[at : at + 1] = b"9"
    elif what == "size":
        table, = struct.unpack_from("<Q", data, 40)
        width, count, names = struct.unpack_from("<HHH", data, 58)
        strings, = struct.unpack_from("<Q", data, table + names * width + 24)
        for at in range(table, table + count * width, width):
            name = strings + struct.unpack_from("<I", data, at)[0]
            if data[name:].startswith(b".gnu.linkonce.this_module\\0"):
                size, = struct.unpack_from("<Q", data, at + 32)
                struct.pack_into("<Q", data, at + 32, size + 64)
    open(path, "wb").write(data)
"""
"""Makes a module file one of another build, of another release, or with a larger struct module."""


@dataclass(frozen=True)
class Obstacle:
    """What is done to the machine, and the words with which the rescue is refused."""

    name: str
    steps: tuple[str, ...]
    words: tuple[str, ...]
    alter: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


OBSTACLES = (
    Obstacle("addresses are hidden", ("echo 2 >/proc/sys/kernel/kptr_restrict",), ("kptr_restrict",)),
    Obstacle(
        "no module files", ("mount -t tmpfs none /usr/lib/modules",), ("/lib/modules/", "install the package")
    ),
    Obstacle(
        "module files of another build",
        OWN_TREE,
        ("another build", "build-id", "reboot"),
        alter=("build-id", "/tmp/tree/*/kernel/*.ko"),
    ),
    Obstacle(
        "module files of another release",
        OWN_TREE,
        ("no usable in-tree module", "install the package"),
        alter=("release", "/tmp/tree/*/kernel/*.ko"),
    ),
    Obstacle(
        "a module file with another struct module",
        (*OWN_TREE, "rm $tree/*", "cp /tmp/libcrc32c.ko $tree"),
        ("sibling and BTF disagree", "size"),
        alter=("size", "/tmp/tree/*/kernel/*.ko"),
    ),
    Obstacle(
        "out-of-tree module files only",
        (*OWN_TREE, "rm $tree/*", "cp /share/decmod.ko /share/none_exit.ko $tree"),
        ("no usable in-tree module",),
    ),
    Obstacle("modules are disabled", ("echo 1 >/proc/sys/kernel/modules_disabled",), ("disabled",)),
    Obstacle(
        "lockdown",
        ("echo integrity >/sys/kernel/security/lockdown",),
        ("locked down (integrity)", "--sign-key"),
    ),
    Obstacle(
        "confidentiality",
        ("echo confidentiality >/sys/kernel/security/lockdown",),
        ("locked down (confidentiality)",),
    ),
    Obstacle(
        "enforced signatures",
        ("echo 1 >/sys/module/module/parameters/sig_enforce",),
        ("signed modules only", "--sign-key"),
    ),
)


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=str)
def test_rescue_is_refused_and_nothing_is_written(guest: Guest, obstacle: Obstacle) -> None:
    known = prepare(guest, [*STUCK, *obstacle.steps])
    if obstacle.alter:
        run_python(guest, ALTER, *obstacle.alter)
    why, rescue = ask(guest, ["why", "bug_mod1", "--json"], ["rescue", "bug_mod1", "--json"])
    assert why.code == 1, why
    result = rescue.object
    assert (result["outcome"], rescue.code) == ("refused", 3), rescue
    for word in obstacle.words:
        assert word in result["reason"] + result["remedy"], f"{word!r} is not said\n{rescue}"
    assert not result["record"], rescue
    wrong = untrue(guest, UNTOUCHED, known)
    assert not wrong, "\n".join([*wrong, str(rescue)])


def test_policy_stops_an_unload_too(guest: Guest) -> None:
    prepare(guest, ["insmod decmod.ko", "echo 1 >/proc/sys/kernel/modules_disabled"])
    why, unload, load = ask(
        guest, ["why", "decmod", "--json"], ["unload", "decmod"], ["load", "/share/leak_ref.ko"]
    )
    assert [finding["code"] for finding in why.object["findings"]] == ["policy"], why
    assert (unload.code, why.code) == (3, 1), unload
    assert load.code == 1, load
    assert "EPERM" in load.stdout, load


@pytest.mark.parametrize(
    ("append", "errno"),
    [("module.sig_enforce=1", "EKEYREJECTED"), ("lockdown=integrity", "EPERM")],
    ids=["signatures", "lockdown"],
)
def test_policy_from_the_command_line(kernel: str, faults: str, append: str, errno: str) -> None:
    """A module of the kernel's own is loaded and removed; ours is not loaded, and its words say why."""
    with Guest.boot(kernel, share=faults, append=append) as guest:
        prepare(guest, ["modprobe dummy"])
        load, unload = ask(guest, ["load", "/share/decmod.ko"], ["unload", "dummy"])
        assert load.code == 1, load
        assert errno in load.stdout, load
        assert unload.code == 0, unload
        assert not untrue(guest, ["gone dummy", "gone decmod"])


AS_NOBODY = "import os, sys; os.setgid(65534); os.setuid(65534); os.execvp('lkm', ['lkm', *sys.argv[1:]])"


@pytest.mark.parametrize(
    "command",
    [("why", "bug_mod1"), ("rescue", "bug_mod1"), ("unload", "bug_mod1"), ("load", "/share/decmod.ko")],
    ids=lambda command: command[0],
)
def test_without_root_it_says_so(guest: Guest, command: tuple[str, ...]) -> None:
    prepare(guest, STUCK)
    done = guest.run(["python3", "-sS", "-c", AS_NOBODY, *command], timeout=60)
    answer = Answer(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert answer.code == 4, answer
    assert "root" in answer.stderr + answer.stdout, answer
    assert "Traceback" not in answer.stderr, answer
    assert not untrue(guest, [*UNTOUCHED, "gone decmod"])


RAW_RMMOD = """
import ctypes, os, sys  # the tool rmmod looks at the count, and does not even try
ctypes.CDLL(None).syscall(176, sys.argv[1].encode(), os.O_NONBLOCK)
"""

LOCKED = (
    ("list",),
    ("why", "put_too_many"),
    ("why", "decmod"),
    ("rescue", "put_too_many"),
    ("rescue", "decmod"),
    ("unload", "decmod"),
    ("load", "/share/leak_ref.ko", "--init-wait", "5"),
)


def test_nothing_hangs_when_a_dead_task_holds_module_mutex(guest: Guest) -> None:
    """rmmod of a module whose count is below zero dies in BUG while it holds module_mutex."""
    prepare(
        guest, ["insmod decmod.ko", "insmod put_too_many.ko", f"dies python3 -c '{RAW_RMMOD}' put_too_many"]
    )
    for command in LOCKED:
        began = time.monotonic()
        done = guest.run(["lkm", *command], timeout=90)
        answer = Answer(command, done.returncode, done.stdout.decode(), done.stderr.decode())
        took = time.monotonic() - began
        assert took < 60, f"{took:.0f} s\n{answer}"
        assert "module_mutex" in answer.stdout + answer.stderr, answer
        assert "Traceback" not in answer.stderr, answer
        expected = {"list": (0, 1), "why": (1,), "rescue": (3,), "unload": (3,), "load": (1, 3)}
        assert answer.code in expected[command[0]], answer


BLIND = """
import json, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.diagnosis.diagnose import diagnose
from lkm.names import module_name
from lkm.rescue.gate import refusals
from lkm.rescue.planner import plan_rescue
from lkm.root import Root
from lkm.system.capture import capture
answers = {}
for line in sys.argv[1:]:
    name = module_name(line)
    snapshot = capture(Root.live(), seconds=0.001)
    refusal = next(refusals(snapshot, plan_rescue(snapshot, name)), None)
    answers[name] = [diagnose(snapshot, name).reason, refusal and refusal.reason, *snapshot.notes]
json.dump(answers, sys.stdout)
"""


def test_what_was_not_seen_in_time_is_not_taken_for_absent(guest: Guest) -> None:
    """On a machine so busy that no reader ends within its deadline, a live loader looks like a dead one, and
    whoever holds a reference like nobody."""
    prepare(
        guest,
        [
            "insmod slow_init.ko seconds=60 & within 10 is slow_init coming",
            "insmod exit_block.ko", "rmmod exit_block & within 10 is exit_block going",
            "insmod left_fs.ko die=0", "mkdir /mnt/left", "mount -t leftfs none /mnt/left",
        ],
    )  # fmt: skip
    answers = json.loads(run_python(guest, BLIND, "slow_init", "exit_block", "left_fs"))
    for name, (reason, refusal, *notes) in answers.items():
        assert refusal, f"{name}: {reason}; {notes}"
