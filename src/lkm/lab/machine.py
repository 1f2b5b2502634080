# SPDX-License-Identifier: MIT
"""One QEMU process: its arguments, its life, its console."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lkm.errors import LabError
from lkm.lab.architecture import Architecture
from lkm.lab.firmware import firmware_arguments
from lkm.lab.port import PORT_NAME
from lkm.lab.process import find_tool

if TYPE_CHECKING:
    from lkm.lab.monitor import Monitor

__all__ = ["Hardware", "Machine"]

PANIC = re.compile(rb"Kernel panic - not syncing")
COMMAND_LINE = "loglevel=4 panic=-1 log_buf_len=4M net.ifnames=0 mitigations=off"
"""With panic=-1 and -no-reboot a panic ends QEMU at once. An oops is no panic: the kernel's default. What keeps
speculation from leaking has nothing to guard on an emulated processor, and costs it a quarter of its time."""


@dataclass(frozen=True)
class Hardware:
    """What a template and its clones must have in common."""

    architecture: Architecture
    kernel: str
    initrd: str
    modules: str
    package: str = ""
    share: str = ""
    memory: int = 512
    append: str = ""
    accelerator: str = "tcg"
    cpu: str = ""
    """QEMU's -cpu; empty: the architecture's own under TCG, the host's under KVM."""
    ram: str = ""
    """A file that is the guest's memory; empty: anonymous memory."""
    ram_shared: bool = False
    incoming: bool = False
    variables: str = ""
    """A file of UEFI variables: the guest starts by UEFI; empty: by a BIOS."""

    def arguments(self) -> list[str]:
        """QEMU's arguments, without the character devices."""
        backend = f"memory-backend-file,mem-path={self.ram},share={_on(self.ram_shared)}"
        if not self.ram:
            backend = "memory-backend-ram"
        architecture = self.architecture
        cpu = self.cpu or (architecture.cpu if self.accelerator == "tcg" else "host")
        disk = "driver=file,read-only=on,locking=off"
        return [
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", f"{architecture.board},memory-backend=ram", "-accel", self.accelerator,
            "-cpu", cpu, "-smp", "1",
            "-object", f"{backend},id=ram,size={self.memory}M", "-m", f"{self.memory}M",
            "-kernel", self.kernel, "-initrd", self.initrd,
            "-append", f"console={architecture.console} {COMMAND_LINE} {self.append}".strip(),
            "-blockdev", f"{disk},node-name=modules,filename={_escape(self.modules)}",
            "-device", "virtio-blk-pci,drive=modules,addr=4",
            "-blockdev", f"{disk},node-name=package,filename={_escape(self.package)}",
            "-device", "virtio-blk-pci,drive=package,addr=5",
            "-blockdev", f"driver=file,locking=off,node-name=share,filename={_escape(self.share)}",
            "-device", "virtio-blk-pci,drive=share,addr=6",
            "-device", "virtio-serial-pci,addr=7",
            "-device", f"virtserialport,chardev=agent,name={PORT_NAME}",
            *(["-incoming", "defer"] if self.incoming else []),
            *(firmware_arguments(self.variables) if self.variables else []),
        ]  # fmt: skip


@dataclass
class Machine:
    """A running QEMU. Close it; as a context manager it does so itself."""

    process: subprocess.Popen[bytes]
    directory: str
    agent: socket.socket
    _monitor_socket: socket.socket
    _monitor: Monitor | None = None
    _watched: int = 0
    _panicked_at: float = field(default=0.0)

    @classmethod
    def start(cls, hardware: Hardware, directory: str) -> Machine:
        """Start QEMU; `directory` (its console log and disks) goes when the machine is closed."""
        agent, agent_end = socket.socketpair()
        monitor, monitor_end = socket.socketpair()
        argv = [
            find_tool(hardware.architecture.emulator),
            *hardware.arguments(),
            "-chardev", f"file,id=console,path={_escape(directory)}/console", "-serial", "chardev:console",
            "-chardev", f"socket,id=agent,fd={agent_end.fileno()}",
            "-chardev", f"socket,id=monitor,fd={monitor_end.fileno()}",
            "-mon", "chardev=monitor,mode=control",
        ]  # fmt: skip
        with open(f"{directory}/console", "wb"):
            pass  # it is looked at before QEMU has opened it
        with agent_end, monitor_end, open(f"{directory}/qemu.log", "wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(agent_end.fileno(), monitor_end.fileno()),
                start_new_session=True,  # the terminal's ^C is for us
            )
        return cls(process, directory, agent, monitor)

    @property
    def monitor(self) -> Monitor:
        """QMP, connected at first use. Raises LabError if QEMU did not start."""
        if self._monitor is None:
            from lkm.lab.monitor import Monitor  # takes 0.1 s, in which QEMU starts

            try:
                self._monitor = Monitor(self._monitor_socket)
            except (LabError, EOFError) as error:
                raise LabError(f"QEMU did not start: {self.complaint() or error}") from error
        return self._monitor

    def complaint(self) -> str:
        """The last line that QEMU itself has said."""
        lines = _read(f"{self.directory}/qemu.log").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def console(self) -> str:
        """What the guest has written to its console so far."""
        return _read(f"{self.directory}/console").decode(errors="replace").replace("\r\n", "\n")

    def death(self) -> str:
        """Why the machine is dead; empty while it lives. A panic that leaves QEMU counts after a second."""
        code = self.process.poll()
        if code is not None:
            if PANIC.search(_read(f"{self.directory}/console")):
                return "the kernel panicked"
            return self.complaint() or ("the guest ended" if code == 0 else f"QEMU ended with code {code}")
        with open(f"{self.directory}/console", "rb") as stream:
            stream.seek(max(0, self._watched - 64))
            fresh = stream.read()
            self._watched = stream.tell()
        if PANIC.search(fresh) and not self._panicked_at:
            self._panicked_at = time.monotonic()
        if self._panicked_at and time.monotonic() - self._panicked_at > 1:
            return "the kernel panicked"
        return ""

    def close(self) -> None:
        """End QEMU: politely, then by its process id. Nothing of it stays."""
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._monitor is not None:
            self._monitor.close()
        self._monitor_socket.close()
        self.agent.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def scratch_directory() -> str:
    """A directory for one machine."""
    return tempfile.mkdtemp(prefix="lkm-lab-")


def _escape(path: str) -> str:
    """QEMU's option syntax doubles commas."""
    return path.replace(",", ",,")


def _on(value: bool) -> str:  # noqa: FBT001 - it is a word of QEMU's
    return "on" if value else "off"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""
