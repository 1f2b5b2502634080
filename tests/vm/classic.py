# SPDX-License-Identifier: MIT
"""Situations in which kmod's tools and lkm's run on the same kernel, one after the other, and must end alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

from lkm.lab.vm import Guest

__all__ = ["SITUATIONS", "Ending", "Situation", "run_situations"]


@dataclass(frozen=True)
class Situation:
    """`before` are kmod's; `commands` run with each side's tools in turn. All are shell lines."""

    name: str
    commands: tuple[str, ...]
    config: str = ""
    before: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """What must be among what kmod says: that the situation is what it is meant to be."""

    since: int = 0
    """The first release of kmod that does it."""

    def __str__(self) -> str:
        return self.name


class Ending(NamedTuple):
    """What a side's commands said, and what the kernel has afterwards."""

    said: list[tuple[int, str, str]]
    """Exit code, standard output and standard error of each command."""
    loaded: list[str]
    parameters: dict[str, str]


SITUATIONS = (
    Situation("dependencies come first", ("modprobe -v bridge", "lsmod"), words=("llc.ko", "stp.ko")),
    Situation("what is loaded is not loaded again", ("modprobe -v bridge",), before=("modprobe bridge",)),
    Situation(
        "--first-time on a loaded one",
        ("modprobe --first-time bridge",),
        before=("modprobe bridge",),
        words=("already in kernel",),
    ),
    Situation(
        "a dash is an underscore",
        ("modprobe -v dash_name", "modprobe -r -v dash-name", "modprobe dash-name", "rmmod dash-name"),
    ),
    Situation(
        "options of the configuration",
        ("modprobe -v dash-name",),
        "options dash_name level=5\n",
        words=("level=5",),
    ),
    Situation(
        "options of the command line come last",
        ("modprobe -v dash-name level=7",),
        "options dash-name level=5\n",
        words=("level=5 level=7",),
    ),
    Situation(
        "options of an alias",
        ("modprobe -v my-dash-1",),
        "alias my-dash-* dash-name\noptions my-dash-1 level=3\n",
    ),
    Situation("MODPROBE_OPTIONS", ("MODPROBE_OPTIONS='-v -n' modprobe bridge",)),
    Situation(
        "a soft dependency before and one after",
        ("modprobe -v decmod", "modprobe -r -v decmod"),
        "softdep decmod pre: dash-name post: provider\n",
        words=("dash-name.ko", "provider.ko"),
    ),
    Situation(
        "a soft dependency that is not there", ("modprobe -v decmod",), "softdep decmod pre: nowhere\n"
    ),
    Situation("a soft dependency that fails", ("modprobe -v decmod",), "softdep decmod pre: failing_init\n"),
    Situation(
        "soft dependencies in a circle",
        ("modprobe -v decmod",),
        "softdep decmod pre: dash-name\nsoftdep dash-name pre: decmod\n",
    ),
    Situation(
        "an install command",
        ("modprobe -v decmod level=1",),
        "install decmod echo installs $MODPROBE_MODULE with $CMDLINE_OPTS; modprobe --ignore-install decmod\n",
    ),
    Situation("an install command that fails", ("modprobe -v decmod",), "install decmod /bin/false\n"),
    Situation(
        "an install command that asks for more",
        ("modprobe -v dependent",),
        "install provider modprobe --ignore-install provider && modprobe --quiet decmod\n",
    ),
    Situation(
        "an install command of a dependency",
        ("modprobe -v dependent",),
        "install provider modprobe -i provider && echo provided\n",
    ),
    Situation("an install command passed over", ("modprobe -i -v decmod",), "install decmod /bin/false\n"),
    Situation(
        "a remove command",
        ("modprobe -v -r decmod",),
        "remove decmod echo removes; rmmod decmod\n",
        ("modprobe decmod",),
    ),
    Situation(
        "a remove command that fails", ("modprobe -r decmod",), "remove decmod exit 3\n", ("modprobe decmod",)
    ),
    Situation(
        "the blacklist holds for an alias",
        ("modprobe -v some-alias",),
        "alias some-alias decmod\nblacklist decmod\n",
    ),
    Situation(
        "the blacklist does not hold for a name",
        ("modprobe -v decmod",),
        "blacklist decmod\n",
        words=("decmod.ko",),
    ),
    Situation("the blacklist holds for a name with -b", ("modprobe -b -v decmod",), "blacklist decmod\n"),
    Situation(
        "the blacklist does not hold for a dependency",
        ("modprobe -b -v dependent",),
        "blacklist provider\n",
        words=("provider.ko",),
    ),
    Situation("an alias to nothing", ("modprobe -v some-alias",), "alias some-alias off\n"),
    Situation(
        "an alias that two have",
        ("modprobe -v some-alias",),
        "alias some-alias decmod\nalias some-alias dash-name\n",
    ),
    Situation(
        "a name that is not there",
        ("modprobe nowhere", "modprobe -q nowhere", "modprobe -a nowhere decmod"),
        words=("not found in directory",),
    ),
    Situation(
        "nothing to load",
        ("modprobe", "modprobe -a", "modprobe -r", "insmod", "rmmod"),
        words=("missing parameters",),
    ),
    Situation(
        "init fails",
        ("modprobe failing_init", "modprobe failing_init code=-16", "modprobe -v failing_init code=0"),
        words=("No such device",),
    ),
    Situation("a dependency fails", ("modprobe dependent",), "install provider /bin/false\n"),
    Situation(
        "a bad value",
        ("modprobe dash-name level=many", "insmod /share/dash-name.ko level=many"),
        words=("Invalid",),
    ),
    Situation("an unknown parameter", ("modprobe dash-name none=1",)),
    Situation(
        "--dry-run",
        ("modprobe -n -v bridge", "modprobe -n bridge", "modprobe -n -r bridge", "modprobe -D bridge"),
        words=("bridge.ko",),
    ),
    Situation("compressed", ("modprobe -v dependent", "modprobe -r -v dependent"), words=("provider.ko.xz",)),
    Situation(
        "a file by its path",
        (
            "modprobe -v /lib/modules/$(uname -r)/share/dependent.ko",
            "modprobe -r dependent",
            "cd /share && modprobe -v ./decmod.ko",
        ),
        since=34,
    ),
    Situation("forced", ("modprobe -f decmod", "insmod -f /share/dash-name.ko")),
    Situation(
        "another kernel's",
        ("modprobe alien", "modprobe --force-vermagic alien"),
        words=("Exec format error",),
    ),
    Situation(
        "insmod",
        (
            "insmod /share/dash-name.ko level=4",
            "insmod /share/dash-name.ko",
            "insmod /share/dependent.ko",
            "insmod /share/nowhere.ko",
            "insmod /etc/passwd",
            "insmod -",
            "insmod /share",
        ),
        words=("File exists", "Unknown symbol"),
    ),
    Situation(
        "removal takes what nobody needs any more",
        ("modprobe -r -v bridge",),
        before=("modprobe bridge",),
        words=("rmmod stp",),
    ),
    Situation(
        "removal leaves what somebody needs",
        ("modprobe -r -v bridge",),
        before=("modprobe bridge", "modprobe 8021q"),
        words=("rmmod bridge",),
    ),
    Situation(
        "removal of one that is needed",
        ("modprobe -r provider", "modprobe -r -v llc"),
        before=("modprobe dependent", "modprobe bridge"),
        words=("in use",),
    ),
    Situation("removal with holders", ("modprobe -r --remove-holders -v llc",), before=("modprobe bridge",)),
    Situation(
        "removal of many",
        ("modprobe -r -v decmod dependent nowhere dash-name",),
        before=("modprobe -a decmod dependent dash-name",),
    ),
    Situation(
        "removal of one that is not loaded",
        (
            "modprobe -r decmod",
            "modprobe -r --first-time decmod",
            "modprobe -r nowhere",
            "modprobe -q -r nowhere",
        ),
        words=("is not in kernel",),
    ),
    Situation(
        "removal of a built-in",
        ("modprobe -r jbd2", "modprobe jbd2", "modprobe --first-time jbd2", "rmmod jbd2"),
        words=("builtin",),
    ),
    Situation("removal with a wait", ("modprobe -r -v -w 300 decmod",), before=("modprobe decmod",)),
    Situation(
        "rmmod goes on",
        ("rmmod provider nowhere decmod dependent provider",),
        before=("modprobe dependent", "modprobe decmod"),
        words=("in use by: dependent", "is not currently loaded"),
    ),
    Situation(
        "rmmod of one that never ends",
        ("rmmod dummy_none", "rmmod -v decmod", "rmmod -s decmod"),
        before=("modprobe decmod",),
    ),
)


RUNNER = """
import importlib, json, os, subprocess, sys
sys.path[0] = "/usr/lib/lkm"
from lkm.__main__ import main
from lkm.cli.kmod.main import TOOLS
for module, _ in TOOLS.values():
    importlib.import_module(module)
release = os.uname().release
def loaded():
    return sorted(line.split()[0] for line in open("/proc/modules"))
def parameters(names):
    found = {}
    for name in names:
        top = f"/sys/module/{name}/parameters"
        for key in sorted(os.listdir(top)) if os.path.isdir(top) else []:
            try:
                found[f"{name}.{key}"] = open(f"{top}/{key}").read().strip()
            except OSError:
                pass
    return found
def shell(line, path):
    child = subprocess.Popen(["/bin/sh", "-c", line], env={"PATH": path, "LC_ALL": "C"}, stdout=-1, stderr=-1,
                             text=True, start_new_session=True)
    try:
        out, err = child.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)
        out, err = child.communicate()
        err += "it had no end"
    return [child.returncode, out, err]
def tool(words, path):
    with open("/tmp/out", "w+") as out, open("/tmp/err", "w+") as err:
        child = os.fork()
        if not child:
            os.environ.clear()
            os.environ.update(PATH=path, LC_ALL="C")
            os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
            sys.argv = words
            code = 70
            try:
                code = main()
            finally:
                sys.stdout.flush(), sys.stderr.flush(), os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0), err.seek(0)
        return [code, out.read(), err.read()]
def run(line, path):
    words = line.split()
    if path == PLAIN or words[0] not in TOOLS or set(line) & set("$;&|='"):
        return shell(line, path)
    return tool(words, path)
PLAIN = "/usr/sbin:/usr/bin"
base = set(loaded())
def clean():
    for _ in range(9):
        rest = [name for name in loaded() if name not in base]
        if not rest:
            return []
        subprocess.run(["/usr/sbin/rmmod", *rest], capture_output=True)
    return rest
answers = []
for number, (commands, config, before) in enumerate(json.load(sys.stdin)):
    endings = []
    for path in (PLAIN, "/tmp/lkm-tools:" + PLAIN):
        with open("/etc/modprobe.d/situation.conf", "w") as stream:
            stream.write(config)
        for line in before:
            code, out, err = shell(line, PLAIN)
            assert not code, (line, err)
        said = [run(line, path) for line in commands]
        now = [name for name in loaded() if name not in base]
        endings.append([said, now, parameters(now)])
        rest = clean()
        assert not rest, (commands, rest)
    answers.append(endings)
json.dump(answers, sys.stdout)
"""

"""In the guest. What is one tool's work and nothing of a shell's is done in a copy of this process: starting an
interpreter takes a second here."""

PREPARE = """
set -e
release=$(uname -r)
mkdir -p /etc/modprobe.d /tmp/lkm-tools /tmp/tree/$release/share
for tool in lsmod insmod rmmod modinfo modprobe depmod; do ln -s /usr/local/bin/lkm /tmp/lkm-tools/$tool; done
cd /lib/modules/$release
for name in kernel/net/802 kernel/net/llc kernel/net/bridge/bridge.ko* kernel/net/8021q; do
    mkdir -p /tmp/tree/$release/$(dirname $name)
    cp -r $name /tmp/tree/$release/$name
done
cp modules.builtin modules.builtin.modinfo modules.order /tmp/tree/$release/
cp /share/*.ko /tmp/tree/$release/share/
python3 - /tmp/tree/$release/share <<'END'
import lzma, os, sys
top = sys.argv[1]
data = open(f"{top}/provider.ko", "rb").read()
open(f"{top}/provider.ko.xz", "wb").write(lzma.compress(data, check=lzma.CHECK_CRC32))
os.unlink(f"{top}/provider.ko")
data = open(f"{top}/decmod.ko", "rb").read()
at = data.index(b" SMP", data.index(b"vermagic="))
open(f"{top}/alien.ko", "wb").write(data[:at] + b" UMP" + data[at + 4:])
END
mount --bind /tmp/tree /lib/modules
/usr/sbin/depmod
"""


def run_situations(guest: Guest, situations: tuple[Situation, ...]) -> list[tuple[Situation, Ending, Ending]]:
    """Both endings of each, kmod's first."""
    done = guest.run(["sh", "-c", PREPARE], timeout=120)
    assert done.returncode == 0, done.stderr
    asked = [(situation.commands, situation.config, situation.before) for situation in situations]
    done = guest.run(["python3", "-c", RUNNER], stdin=json.dumps(asked).encode(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    return [(situation, Ending(*kmod), Ending(*lkm)) for situation, (kmod, lkm) in zip(situations, answers)]
