# SPDX-License-Identifier: MIT
"""modprobe on real kernels: the same modules come and go as with kmod's, which is in the guest too."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lkm.lab.vm import Guest
from tests.vm.talk import prepare, untrue

OURS = "/tmp/ours/modprobe"
PROGRAM = """\
#!/usr/bin/python3 -sS
import sys
sys.path[:0] = ["/usr/lib/lkm"]
from lkm.__main__ import main
sys.exit(main())
"""
CONF = """\
options dummy numdummies=3
softdep loop pre: dummy post: xfs
install nlmon echo installing $MODPROBE_MODULE $CMDLINE_OPTS >> /tmp/commands
remove nlmon echo removing $MODPROBE_MODULE >> /tmp/commands
alias another-name tun
forbid sunrpc
forbid tls
softdep bonding pre: loop
"""
KERNELS = pytest.mark.parametrize("kernel", ["6.1", "7.3"], indirect=True)
"""One with plain files, and one with files that it decompresses itself."""


@pytest.fixture
def machine(kernel: str) -> Iterator[Guest]:
    """A clone with lkm's modprobe at OURS."""
    with Guest.clone(kernel) as guest:
        guest.run(["mkdir", "-p", "/tmp/ours", "/etc/modprobe.d"])
        guest.run(["sh", "-c", f"cat > {OURS}; chmod +x {OURS}"], stdin=PROGRAM.encode())
        yield guest


def says(guest: Guest, *argv: str) -> tuple[int, str, str]:
    """Exit code and output of a command line, without the lines of source that kmod 30 names."""
    done = guest.run(argv, timeout=120)
    said = re.sub(r"\.\./libkmod/\S+:\d+ \w+\(\) ", "", done.stderr.decode())
    return done.returncode, done.stdout.decode(), said


def loaded(guest: Guest) -> list[str]:
    return sorted(line.split()[0] for line in says(guest, "cat", "/proc/modules")[1].splitlines())


def clear(guest: Guest, before: list[str]) -> None:
    """Remove what was not there before: a removal leaves what was in use when its turn came."""
    for _ in range(4):
        for name in set(loaded(guest)) - set(before):
            says(guest, "rmmod", name)
    assert loaded(guest) == before


@KERNELS
def test_modprobe_brings_and_takes_what_kmod_does(machine: Guest) -> None:
    before = loaded(machine)
    for name in ("nfsd", "raid456", "fs-xfs"):
        answers = []
        for tool in ("/sbin/modprobe", OURS):
            brought = says(machine, tool, "-v", name)
            again = says(machine, tool, "--first-time", name)
            there = loaded(machine)
            answers.append((brought, again, there, says(machine, tool, "-rv", name), loaded(machine)))
            clear(machine, before)
        assert answers[0] == answers[1]
        assert answers[0][0][1].count("insmod") == len(answers[0][2]) - len(before)


@KERNELS
def test_a_removal_takes_dependencies_and_holders(machine: Guest) -> None:
    before = loaded(machine)
    answers = []
    for tool in ("/sbin/modprobe", OURS):
        assert says(machine, tool, "nfsd") == (0, "", "")
        with_nfsd = loaded(machine)
        code, out, err = says(machine, tool, "-r", "sunrpc")
        in_use = (code, out, err.partition("modprobe: NOTICE:")[0])
        assert (code, loaded(machine)) == (1, with_nfsd)
        by_holders = says(machine, tool, "-rv", "--remove-holders", "auth_rpcgss")
        left = loaded(machine)
        answers.append((with_nfsd, in_use, by_holders, left))
        clear(machine, before)
    assert answers[0] == answers[1]


@KERNELS
def test_modprobe_follows_its_configuration(machine: Guest) -> None:
    machine.run(["sh", "-c", "cat > /etc/modprobe.d/a.conf"], stdin=CONF.encode())
    prepare(
        machine,
        [
            f"{OURS} loop max_loop=5",
            "[ -e /sys/class/net/dummy2 ] && [ ! -e /sys/class/net/dummy3 ]",
            '[ "$(cat /sys/module/loop/parameters/max_loop)" = 5 ]',
            "is xfs live && is dummy live",
            f"{OURS} -r loop",
            "gone loop && gone xfs && gone dummy",
            f"{OURS} nlmon a=1 && gone nlmon",
            f"{OURS} -r nlmon",
            f"{OURS} another-name && is tun live",
        ],
    )
    assert says(machine, "cat", "/tmp/commands")[1] == "installing nlmon a=1\nremoving nlmon\n"
    forbidden = "is forbidden by /etc/modprobe.d/a.conf line"
    code, out, err = says(machine, OURS, "nfsd")
    assert (code, out) == (1, "")
    assert err.startswith(f"modprobe: ERROR: Module sunrpc, wanted by nfsd, {forbidden} 6\n")
    assert f"Module tls, wanted by bonding, {forbidden} 7" in says(machine, OURS, "bonding")[2]
    assert not untrue(machine, ["gone sunrpc", "gone grace", "gone tls", "gone bonding", "gone loop"])


@KERNELS
def test_the_kernel_gets_what_it_asks_for(machine: Guest) -> None:
    """request_module() starts it, with an empty environment and no standard streams."""
    prepare(
        machine,
        [
            f"echo {OURS} > /proc/sys/kernel/modprobe",
            "gone xfs; mount -t xfs none /mnt 2>/dev/null; is xfs live",
            "mount -t nosuchfs none /mnt 2>/dev/null; [ $? = 0 ] && exit 1; true",
            f"{OURS} loop && {{ sleep 1 < /dev/loop0 & }} && {OURS} -r -w 20000 loop && gone loop",
        ],
    )


@KERNELS
def test_a_load_that_fails_says_why(machine: Guest) -> None:
    """In kmod's words, then in the kernel's own and what they mean."""
    machine.run(["sh", "-c", "cp -r /lib/modules/$(uname -r)/kernel/drivers/net/dummy.ko* /tmp/"])
    path = says(machine, "sh", "-c", "echo /tmp/dummy.ko*")[1].strip()
    expected = says(machine, "/sbin/modprobe", "dummy", "numdummies=many")
    found = says(machine, OURS, "dummy", "numdummies=many")
    lines = found[2].splitlines()
    assert (found[0], found[1], lines[0]) == (*expected[:2], expected[2].strip())
    assert any(line.startswith("modprobe: NOTICE: kernel: ") and "numdummies" in line for line in lines)
    assert says(machine, OURS, path, "numdummies=2") == (0, "", "")
    assert not untrue(machine, ["is dummy live", "[ -e /sys/class/net/dummy1 ]"])
