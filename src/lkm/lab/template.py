# SPDX-License-Identifier: MIT
"""Templates: a guest that has booted, frozen as a RAM file and a device state, from which clones start.

Every clone maps the RAM file privately, so that it costs each only the pages that it changes. QEMU's
migration leaves it out of the state file by the capability `x-ignore-shared`. A clone is running 50 ms
after its QEMU has started. Clones share the KASLR layout.
"""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace

from lkm.errors import LabError
from lkm.lab.boot import boot_guest, describe_hardware, qemu_identity, start_session
from lkm.lab.cache import (
    Progress,
    cache_dir,
    content_key,
    intact,
    locked,
    prune,
    publish,
    use,
    write_manifest,
)
from lkm.lab.kernels import Kernel
from lkm.lab.machine import Hardware
from lkm.lab.monitor import Monitor
from lkm.lab.session import Session

__all__ = ["clone_guest"]

CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}]


def clone_guest(
    kernel: Kernel, *, share: str | None, memory: int, cpu: str = "", progress: Progress
) -> Session:
    """A clone of the template of this kernel, which is made if there is none."""
    hardware = describe_hardware(kernel, memory=memory, cpu=cpu, progress=progress)
    home = _template(kernel, hardware, progress)
    try:
        return _clone(hardware, home, share)
    except LabError:
        if intact(home):
            raise
        progress("the template is gone: making it anew")
        return _clone(hardware, _template(kernel, hardware, progress), share)


def _clone(hardware: Hardware, home: str, share: str | None) -> Session:
    clone = replace(hardware, ram=os.path.join(home, "ram"), incoming=True)
    session = start_session(clone, share=share, deliver=True)
    try:
        monitor = session.machine.monitor
        monitor.execute("migrate-set-capabilities", capabilities=CAPABILITIES)
        monitor.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(os.path.join(home, 'state'))}")
        _await_migration(monitor)
        monitor.execute("cont")
        session.adopt()
    except BaseException:
        session.close()
        raise
    return session


def _template(kernel: Kernel, hardware: Hardware, progress: Progress) -> str:
    """The directory with `ram` and `state`; made under a lock if it is not there or damaged."""
    home = os.path.join(cache_dir("templates"), f"{kernel.release}-{_key(hardware)}")
    if intact(home):
        return use(home)
    with locked(f"template-{kernel.release}"):
        if not intact(home):
            prune(cache_dir("templates"))
            progress(f"booting {kernel.release} once, as the template of its clones")
            with publish(home) as scratch:
                _freeze(hardware, scratch, progress)
                write_manifest(scratch, {"release": kernel.release}, unhashed=("ram",))
    return home


def _key(hardware: Hardware) -> str:
    """By all that QEMU is told. The initramfs is named by its content, and its date is that of its last use."""
    files = [(path, os.stat(path).st_mtime_ns) for path in (hardware.kernel, hardware.modules)]
    return content_key(qemu_identity(hardware.architecture.emulator), hardware.arguments(), files)


def _freeze(hardware: Hardware, directory: str, progress: Progress) -> None:
    """Boot with the RAM in a file, stop, and write the state of the devices beside it."""
    ram, state = os.path.join(directory, "ram"), os.path.join(directory, "state")
    session = boot_guest(replace(hardware, ram=ram, ram_shared=True), deliver=False, progress=progress)
    try:
        monitor = session.machine.monitor
        monitor.execute("stop")
        monitor.execute("migrate-set-capabilities", capabilities=CAPABILITIES)
        # An error shows in this very reply; after one, query-migrate would say "none" for ever.
        monitor.execute("migrate", uri=f"exec:cat > {shlex.quote(state)}")
        _await_migration(monitor)
    finally:
        session.close()


def _await_migration(monitor: Monitor) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        status = monitor.execute("query-migrate").get("status", "none")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            break
        time.sleep(0.002)
    raise LabError("QEMU could not write or read a template", remedy="delete templates/ in the lab's cache")
