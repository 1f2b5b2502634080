# SPDX-License-Identifier: MIT
"""Process 1 of a guest: runs commands for the host, which talks to it over a virtio-serial port.

Runs inside the guest, with `lkm.lab.port` and the standard library. From the host: `adopt` (set the clock,
stir the random pool, mount the disks), `run`, `input`, `resize`. To the host: `ready`, `started`, `out`, `exit`.

Commands here oops, hang in the kernel for ever and leave children that hold their pipes. So nothing waits
for the end of a pipe: a command is over when its own process is, plus DRAIN seconds; and one that survives
SIGKILL is reported as timed out and forgotten.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any, Callable

from lkm.lab.port import PORT_NAME, Port

DRAIN = 0.2
"""Seconds for which output is still collected after the end of a command."""

KILL_GRACE = 0.5
"""Seconds that a killed command has to end before it is given up."""

CHUNK = 32768
ORPHANED = 5.0
"""Seconds without a host after which the guest powers itself off."""

BLKFLSBUF = 0x1261
"""Forget what was read of a disk (linux/fs.h): the template has seen these as blank."""

RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
"""linux/random.h. Written bytes alone would wait for the next reseeding, and clones would draw the same."""

LIBC = ctypes.CDLL(None, use_errno=True)
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": "/usr/lib/lkm",
    "TERM": "linux",
    "USER": "root",
}


class Job:
    """A command that runs."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], deadline: float) -> None:
        self.number = number
        self.process = process
        self.deadline = deadline
        self.outputs: dict[int, int] = {}  # descriptor → stream (1 or 2)
        self.pending = bytearray()  # input not yet taken by the command
        self.input = -1
        self.input_ends = False
        self.status: int | None = None
        self.timed_out = False


class Agent:
    """The loop: frames, output, ended children, deadlines."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._jobs: dict[int, Job] = {}  # by process id
        self._selector = selectors.DefaultSelector()
        wake, self._wakeup = os.pipe()
        for descriptor in (wake, self._wakeup):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(port.descriptor, selectors.EVENT_READ, self._on_port)
        self._selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        self._last_host = time.monotonic()

    def serve(self) -> None:
        """For ever."""
        while True:
            for key, _ in self._selector.select(self._patience()):
                # A handler that ran before may have closed this descriptor.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._reap()
            self._expire()

    def _patience(self) -> float | None:
        now = time.monotonic()
        ends = [job.deadline for job in self._jobs.values() if job.deadline]
        return max(0.0, min(ends) - now) if ends else None

    def _on_port(self) -> None:
        if not self._port.fill():
            # After a restore the port is briefly without its host.
            time.sleep(0.02)
            if time.monotonic() - self._last_host > ORPHANED:
                power_off()
            return
        self._last_host = time.monotonic()
        while True:
            frame = self._port.take()
            if frame is None:
                return
            self._last_host = time.monotonic()
            header, payload = frame
            try:
                handler: Callable[[dict[str, Any], bytes], None] = getattr(self, f"_do_{header['do']}")
                handler(header, payload)
            except Exception as error:  # noqa: BLE001 - an agent that ends is a kernel panic
                self._report(int(header["id"]), 125, f"lab agent: {error}\n")

    def _do_adopt(self, header: dict[str, Any], payload: bytes) -> None:
        time.clock_settime(time.CLOCK_REALTIME, float(header["time"]))
        with open("/dev/urandom", "wb") as pool:
            fcntl.ioctl(pool, RNDADDENTROPY, struct.pack("ii", 8 * len(payload), len(payload)) + payload)
            fcntl.ioctl(pool, RNDRESEEDCRNG)
        for device, directory in header["mounts"].items():
            with open(device, "rb") as disk:
                fcntl.ioctl(disk, BLKFLSBUF)
            mount_ext4(device, directory, read_only=directory != "/share")
        self._report(int(header["id"]), 0, "")

    def _do_run(self, header: dict[str, Any], payload: bytes) -> None:
        number, argv = int(header["id"]), [str(word) for word in header["argv"]]
        try:
            process, master = start_command(
                argv,
                environment=header.get("env"),
                background=bool(header.get("background")),
                terminal=bool(header.get("terminal")),
                wants_input=bool(payload) or bool(header.get("more_input")),
            )
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            self._report(number, code, f"lab: cannot run {argv[0]}: {error.strerror}\n")
            return
        timeout = float(header.get("timeout") or 0)
        job = Job(number, process, time.monotonic() + timeout if timeout else 0.0)
        job.input_ends = not header.get("more_input")
        self._jobs[process.pid] = job
        self._port.send({"event": "started", "id": number, "pid": process.pid})
        self._connect(job, master)
        self._feed(job, payload)

    def _do_input(self, header: dict[str, Any], payload: bytes) -> None:
        job = self._find(header)
        if job is not None and job.input >= 0:
            job.input_ends = not payload
            self._feed(job, payload)

    def _do_resize(self, header: dict[str, Any], _payload: bytes) -> None:
        job = self._find(header)
        if job is not None and job.input >= 0:
            size = struct.pack("HHHH", int(header["rows"]), int(header["columns"]), 0, 0)
            fcntl.ioctl(job.input, termios.TIOCSWINSZ, size)

    def _find(self, header: dict[str, Any]) -> Job | None:
        return next((job for job in self._jobs.values() if job.number == header["id"]), None)

    def _connect(self, job: Job, master: int) -> None:
        """Watch the output of a command that has started, and keep the end of its input."""
        process = job.process
        if master >= 0:
            self._collect(job, master, 1)
            job.input = os.dup(master)
        for stream, file in ((1, process.stdout), (2, process.stderr)):
            if file is not None:
                self._collect(job, os.dup(file.fileno()), stream)
                file.close()
        if process.stdin is not None:
            job.input = os.dup(process.stdin.fileno())
            process.stdin.close()
            os.set_blocking(job.input, False)

    def _collect(self, job: Job, descriptor: int, stream: int) -> None:
        os.set_blocking(descriptor, False)
        job.outputs[descriptor] = stream
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._forward(job, descriptor))

    def _forward(self, job: Job, descriptor: int) -> None:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last opener of a terminal went away
            data = b""
        if data:
            self._port.send({"event": "out", "id": job.number, "stream": job.outputs[descriptor]}, data)
        else:
            self._close_output(job, descriptor)

    def _close_output(self, job: Job, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        del job.outputs[descriptor]

    def _feed(self, job: Job, data: bytes) -> None:
        """Give input to a command as it takes it; close its end after the last byte."""
        job.pending += data
        watched = job.input in self._selector.get_map() if job.input >= 0 else False
        try:
            while job.pending and job.input >= 0:
                del job.pending[: os.write(job.input, job.pending)]
        except BlockingIOError:
            if not watched:
                self._selector.register(job.input, selectors.EVENT_WRITE, lambda: self._feed(job, b""))
            return
        except OSError:  # it does not read any more
            job.pending.clear()
            job.input_ends = True
        if watched:
            self._selector.unregister(job.input)
        if job.input_ends and job.input >= 0:
            os.close(job.input)
            job.input = -1

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._jobs.get(pid)
            if job is None:
                continue
            job.status = status
            job.process.returncode = 0  # reaped here: Popen must not try it
            if job.deadline != 0 or job.outputs:
                job.deadline = time.monotonic() + DRAIN
            if not job.outputs:
                self._finish(job)

    def _expire(self) -> None:
        """Kill what has run for too long; end what was killed, or has ended and been drained."""
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.status is not None and not job.outputs:
                self._finish(job)
            elif job.deadline and now >= job.deadline:
                if job.status is not None or job.timed_out:
                    self._finish(job)
                else:
                    job.timed_out = True
                    job.deadline = now + KILL_GRACE
                    _kill_group(job.process.pid)

    def _finish(self, job: Job) -> None:
        del self._jobs[job.process.pid]
        for descriptor in list(job.outputs):
            for _ in range(256):  # what is in the pipe now, at most; a writer that never stops is cut off
                before = len(job.outputs)
                self._forward(job, descriptor)
                if len(job.outputs) < before or not _readable(descriptor):
                    break
            if descriptor in job.outputs:
                self._close_output(job, descriptor)
        if job.input >= 0:
            if job.input in self._selector.get_map():
                self._selector.unregister(job.input)
            os.close(job.input)
            job.input = -1
        job.process.returncode = 0
        status = job.status
        if job.timed_out or status is None:
            code = 124
        else:
            code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self._port.send({"event": "exit", "id": job.number, "code": code, "timed_out": job.timed_out})

    def _report(self, number: int, code: int, complaint: str) -> None:
        if complaint:
            self._port.send({"event": "out", "id": number, "stream": 2}, complaint.encode())
        self._port.send({"event": "exit", "id": number, "code": code, "timed_out": False})


def start_command(
    argv: list[str],
    *,
    environment: dict[str, str] | None,
    background: bool,
    terminal: bool,
    wants_input: bool,
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command: its process, and our end of its terminal (-1 without one). Raises OSError."""
    out = subprocess.DEVNULL if background else subprocess.PIPE
    master, slave = os.openpty() if terminal else (-1, -1)
    try:
        process = subprocess.Popen(
            argv,
            stdin=slave if terminal else (subprocess.PIPE if wants_input else subprocess.DEVNULL),
            stdout=slave if terminal else out,
            stderr=slave if terminal else out,
            env={**ENVIRONMENT, **(environment or {})},
            cwd="/share" if os.path.isdir("/share") else "/",
            start_new_session=True,
            # The agent has one thread, so running Python between fork and exec is sound.
            preexec_fn=_take_terminal if terminal else None,  # noqa: PLW1509
        )
    except OSError:
        if master >= 0:
            os.close(master)
        raise
    finally:
        if slave >= 0:
            os.close(slave)
    return process, master


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass


def _readable(descriptor: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(0))


def find_port() -> int:
    """Open the port called PORT_NAME; there is no udev to make a link for it."""
    top = "/sys/class/virtio-ports"
    for _ in range(500):
        for name in os.listdir(top) if os.path.isdir(top) else []:
            with open(os.path.join(top, name, "name"), encoding="ascii") as stream:
                if stream.read().strip() == PORT_NAME:
                    return os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
        time.sleep(0.01)
    raise SystemExit(f"no virtio port {PORT_NAME}")


def mount_ext4(device: str, directory: str, *, read_only: bool) -> None:
    """mount(2), without the time that a process would take. Raises OSError."""
    flags = 1 if read_only else 0
    if LIBC.mount(device.encode(), directory.encode(), b"ext4", flags, None):
        number = ctypes.get_errno()
        raise OSError(number, f"{device} on {directory}: {os.strerror(number)}")


def power_off() -> None:
    """End the machine at once: nobody listens to it."""
    subprocess.Popen(["/bin/busybox", "poweroff", "-f"])
    time.sleep(60)


def main() -> None:
    """Say that the guest is up, then serve."""
    os.setsid() if os.getsid(0) != os.getpid() else None
    port = Port(find_port())
    uname = os.uname()
    port.send({"event": "ready", "id": 0, "release": uname.release, "python": sys.version.split()[0]})
    Agent(port).serve()


if __name__ == "__main__":
    main()
