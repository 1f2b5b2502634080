# SPDX-License-Identifier: MIT
"""Run kmod's tools and lkm's in a made-up machine: a directory with /lib/modules, /etc, /proc and /sys.

kmod is the one that is installed; `$LKM_TEST_KMOD` names a directory with the tools of another.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lkm.lab.process import find_tool

__all__ = ["RELEASE", "Answer", "Machine", "kmod_features", "kmod_path"]

RELEASE = "6.1.0-test"
SOURCE = Path(__file__).with_name("fake.c")
PACKAGE = Path(__file__).parents[2] / "src"
NOBODY = 65534
DEADLINE = 20.0
"""Seconds for one tool."""


class Answer(NamedTuple):
    """What a tool did. `calls` are those to the kernel, in order."""

    code: int
    out: str
    err: str
    calls: str = ""


def kmod_path(tool: str) -> str:
    """kmod's own tool of that name."""
    directory = os.environ.get("LKM_TEST_KMOD", "")
    return os.path.join(directory, tool) if directory else find_tool(tool)


@functools.cache
def kmod_features() -> frozenset[str]:
    """What kmod was built with (`+ZSTD`), and its version (`30`)."""
    said = subprocess.run([kmod_path("modprobe"), "-V"], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"[+-]\w+|(?<=version )\d+", said))


def _with_a_small_stack() -> None:
    """kmod recurses without end in some circles: so it comes to its end sooner."""
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 19, 1 << 19))


@functools.cache
def preload() -> str:
    """The path of the preloaded library, built once a process."""
    top = tempfile.mkdtemp(prefix="lkm-fake-")
    os.chmod(top, 0o755)  # for nobody too
    library = os.path.join(top, "fake.so")
    argv = [find_tool("gcc-12"), "-shared", "-fPIC", "-O1", "-w", "-o", library, str(SOURCE), "-ldl"]
    subprocess.run(argv, check=True)
    return library


class _Server:
    """The process that lkm's tools are forked from."""

    def __init__(self) -> None:
        environment = {**os.environ, "LD_PRELOAD": preload(), "PYTHONPATH": str(PACKAGE)}
        argv = [sys.executable, str(Path(__file__).with_name("server.py"))]
        self._process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: Mapping[str, object]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@functools.cache
def _server() -> _Server:
    return _Server()


class Machine:
    """A directory that stands for a machine. Paths are given as on it: `/etc/modprobe.d/a.conf`."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.results = ""
        self.nobody = False
        """Run the tools as nobody, if this process may do that: root can read everything."""
        self._count = 0
        (top / "proc").mkdir(parents=True, exist_ok=True)
        (top / "sys/module").mkdir(parents=True, exist_ok=True)
        self.write("/proc/cmdline", "quiet\n")
        self.write("/proc/modules", "")
        self.tree.mkdir(parents=True)

    @property
    def tree(self) -> Path:
        """Where the modules are."""
        return self.top / "lib/modules" / RELEASE

    def path(self, name: str) -> Path:
        """Where a file of the machine really is."""
        return self.top / name.lstrip("/")

    def write(self, name: str, content: str | bytes) -> Path:
        """Make a file, and the directories that it is in."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, name: str, *, refcnt: int = 0, state: str = "live", holders: tuple[str, ...] = ()) -> None:
        """Show a module as loaded."""
        self.write(f"/sys/module/{name}/initstate", f"{state}\n")
        self.write(f"/sys/module/{name}/refcnt", f"{refcnt}\n")
        self.path(f"/sys/module/{name}/holders").mkdir(exist_ok=True)
        for holder in holders:
            self.path(f"/sys/module/{name}/holders/{holder}").mkdir(exist_ok=True)
        used = "".join(f"{holder}," for holder in holders) or "-"
        with open(self.path("/proc/modules"), "a", encoding="utf-8") as stream:
            stream.write(f"{name} 16384 {refcnt} {used} Live 0x0000000000000000\n")

    def kmod(self, *argv: str, **variables: str) -> Answer:
        """Run kmod's tool."""
        environment = self._environment(variables)
        with self._kept():
            done = subprocess.run(
                argv,
                executable=kmod_path(argv[0]),
                env={**environment, "LD_PRELOAD": preload()},
                cwd=self.top,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE,
                check=False,
                preexec_fn=_with_a_small_stack,
                user=NOBODY if self.nobody and not os.geteuid() else None,
            )
            return Answer(done.returncode, _text(done.stdout), _text(done.stderr), self._calls())

    def lkm_alone(self, *argv: str, output: str = "", file_size: int = 0) -> Answer:
        """Run lkm's tool in a process of its own: its output to a file, or no file over so many bytes."""

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        with self._kept(), open(output or os.devnull, "wb") as stream:
            done = subprocess.run(
                [sys.executable, "-m", "lkm", *argv],
                env={
                    **self._environment({}),
                    "LD_PRELOAD": preload(),
                    "PYTHONPATH": str(PACKAGE),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },  # or it is cut short too
                cwd=self.top,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.PIPE,
                preexec_fn=limit if file_size else None,
                timeout=DEADLINE,
                check=False,
            )
            return Answer(done.returncode, "", _text(done.stderr), self._calls())

    def lkm(self, *argv: str, **variables: str) -> Answer:
        """Run lkm's tool."""
        output = os.fspath(self.top / "said")
        request = {
            "argv": argv,
            "environment": self._environment(variables),
            "directory": str(self.top),
            "output": output,
            "user": NOBODY if self.nobody and not os.geteuid() else None,
        }
        with self._kept():
            code = _server().ask(request)
            out, err = (_text(Path(f"{output}.{end}").read_bytes()) for end in ("out", "err"))
            return Answer(code, out, err, self._calls())

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "FAKE_ROOT": str(self.top),
            "FAKE_RELEASE": RELEASE,
            "FAKE_LOG": str(self.top / "calls"),
            "FAKE_RESULTS": self.results,
            **variables,
        }

    def _calls(self) -> str:
        try:
            return (self.top / "calls").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Each tool has a copy of /sys: it changes it, and all see its directories in the same order."""
        sysfs, kept = self.top / "sys", self.top / "sys-kept"
        sysfs.rename(kept)
        shutil.copytree(kept, sysfs)
        (self.top / "calls").unlink(missing_ok=True)
        try:
            yield
        finally:
            shutil.rmtree(sysfs)
            kept.rename(sysfs)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
