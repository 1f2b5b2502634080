# SPDX-License-Identifier: MIT
"""`Guest`: a disposable virtual machine with a real kernel, as tests and benchmarks use it.

with Guest.clone("6.1", share="fixtures") as guest:
    result = guest.run(["lkm", "why", "stuck", "--json"], timeout=60)
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Literal, overload

from lkm.errors import LabError
from lkm.lab.boot import boot_guest, describe_hardware
from lkm.lab.cache import Progress, silent
from lkm.lab.firmware import firmware_variables
from lkm.lab.kernels import Kernel, get_kernel
from lkm.lab.session import Completed, GuestDied, GuestTimeout, OnOutput, Session
from lkm.lab.template import clone_guest

__all__ = ["Completed", "Guest", "GuestDied", "GuestTimeout"]

MEMORY = 512
"""MB that a guest has by default."""

ANSWER_GRACE = 5.0
"""Seconds after a command's time-out in which the agent has to report it; after that the guest hangs."""


class Guest:
    """A guest that is up. Several commands may run in it at once, from several threads."""

    def __init__(self, kernel: Kernel, session: Session) -> None:
        self.kernel = kernel
        self.session = session

    @classmethod
    def clone(
        cls,
        kernel: str,
        *,
        share: str | None = None,
        memory: int = MEMORY,
        cpu: str = "",
        progress: Progress = silent,
    ) -> Guest:
        """A clone of a booted guest: up in a fraction of a second. `share` appears, copied, as `/share`.

        `cpu` is another processor than usual (QEMU's -cpu; by default `LKM_LAB_CPU`).
        """
        image = get_kernel(kernel, progress=progress)
        return cls(image, clone_guest(image, share=share, memory=memory, cpu=cpu, progress=progress))

    @classmethod
    def boot(
        cls,
        kernel: str,
        *,
        share: str | None = None,
        append: str = "",
        memory: int = MEMORY,
        cpu: str = "",
        firmware_cert: str = "",
        secure_boot: bool = False,
        progress: Progress = silent,
    ) -> Guest:
        """A guest that boots from cold: with a KASLR layout of its own, and `append` on its command line.

        With `firmware_cert`, a PEM file, it starts by UEFI, whose `db` has that certificate, and with
        `secure_boot` Secure Boot is on.
        """
        image = get_kernel(kernel, progress=progress)
        hardware = describe_hardware(image, memory=memory, append=append, cpu=cpu, progress=progress)
        if firmware_cert:
            if hardware.architecture.name != "amd64":
                raise LabError(f"the lab has no UEFI for {kernel}", remedy="take a kernel for amd64")
            hardware = replace(hardware, variables=firmware_variables(firmware_cert, secure_boot=secure_boot))
        progress(f"booting {image.release}")
        return cls(image, boot_guest(hardware, share=share, deliver=True, progress=progress))

    def __enter__(self) -> Guest:  # noqa: PYI034 - typing.Self is of 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the guest; nothing of it stays."""
        self.session.close()

    @overload
    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = ...,
        stdin: bytes = ...,
        env: dict[str, str] | None = ...,
        on_output: OnOutput | None = ...,
        background: Literal[False] = ...,
    ) -> Completed: ...

    @overload
    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = ...,
        stdin: bytes = ...,
        env: dict[str, str] | None = ...,
        on_output: OnOutput | None = ...,
        background: Literal[True],
    ) -> int: ...

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        on_output: OnOutput | None = None,
        background: bool = False,
    ) -> Completed | int:
        """Run a command in `/share` and wait for it; in the background, return its pid at once.

        It is over when its own process is, whoever still holds its pipes. In the background it has no
        time-out and its output is dropped. Raises GuestTimeout after `timeout` seconds (the command has been
        killed, if that was possible, and the guest can be used), and GuestDied.
        """
        header = {"do": "run", "argv": list(argv), "env": env, "timeout": timeout}
        if background:
            return self._start({**header, "timeout": 0, "background": True}, stdin)
        output = {1: bytearray(), 2: bytearray()}

        def collect(stream: int, data: bytes) -> None:
            output[stream] += data
            if on_output is not None:
                on_output(stream, data)

        try:
            code, timed_out = self.session.request(header, stdin, timeout + ANSWER_GRACE, collect)
        except GuestTimeout as error:
            raise GuestTimeout(
                f"the guest hangs: no answer {ANSWER_GRACE:.0f} s after the time-out of {_shown(argv)}",
                stdout=bytes(output[1]),
                stderr=bytes(output[2]),
                console=error.console,
            ) from None
        if timed_out:
            raise GuestTimeout(
                f"{_shown(argv)} did not end within {timeout:g} s",
                stdout=bytes(output[1]),
                stderr=bytes(output[2]),
                console=self.console(),
            )
        return Completed(code, bytes(output[1]), bytes(output[2]))

    def put(self, source: str, destination: str) -> None:
        """Copy a file of the host into the guest, with its permissions; directories are made."""
        with open(source, "rb") as stream:
            data = stream.read()
        mode = f"{os.stat(source).st_mode & 0o777:o}"
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self._must(["sh", "-c", script, "put", destination, mode], stdin=data)

    def get(self, path: str) -> bytes:
        """What a file of the guest holds. Raises LabError if it cannot be read."""
        return self._must(["cat", path]).stdout

    def console(self) -> str:
        """The console log so far: the kernel's messages up to level 7. A clone's begins at its restore."""
        return self.session.machine.console()

    def _must(self, argv: Sequence[str], *, stdin: bytes = b"") -> Completed:
        done = self.run(argv, stdin=stdin)
        if done.returncode:
            complaint = done.stderr.decode(errors="replace").strip()
            raise LabError(f"in the guest: {complaint or f'{_shown(argv)}: exit code {done.returncode}'}")
        return done

    def _start(self, header: dict[str, object], stdin: bytes) -> int:
        channel = self.session.channel
        number, frames = channel.open()
        try:
            channel.send({**header, "id": number}, stdin)
            complaint = ""
            while True:
                frame = self.session.next_frame(frames, time.monotonic() + ANSWER_GRACE)
                if frame.event == "started":
                    return int(frame.header["pid"])
                complaint += frame.payload.decode(errors="replace")
                if frame.event == "exit":
                    raise LabError(f"in the guest: {complaint.strip()}")
        finally:
            channel.forget(number)


def _shown(argv: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, argv))
