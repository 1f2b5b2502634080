# SPDX-License-Identifier: MIT
"""Cold boots: what a guest is made of, which accelerator works here, and one retry for a boot that hangs."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace

from lkm.errors import LabError
from lkm.lab.architecture import Architecture, find_architecture, host_architecture
from lkm.lab.cache import Progress, cache_dir, content_key, locked, prune, use
from lkm.lab.delivery import PACKAGE_SIZE, SHARE_SIZE, package_image, share_image, sparse_file
from lkm.lab.kernels import Kernel
from lkm.lab.machine import Hardware, Machine, scratch_directory
from lkm.lab.process import find_tool
from lkm.lab.rootfs import base_initramfs
from lkm.lab.session import GuestDied, GuestTimeout, Session

__all__ = ["boot_guest", "describe_hardware", "qemu_identity", "start_session"]

BOOT_TIMEOUT = 30.0
"""Seconds in which a guest is up, or will never be (2 to 6 under software emulation), on an idle machine."""

FIRMWARE_TIMEOUT = 60.0
"""Seconds more for one that starts by UEFI (5 to 8, on an idle machine)."""

PROBE_TIMEOUT = 20.0


def qemu_identity(emulator: str) -> tuple[str, int, int]:
    """Which QEMU is installed: a template fits only the one that made it. Asking it would take 30 ms."""
    path = find_tool(emulator)
    status = os.stat(path)
    return path, status.st_mtime_ns, status.st_size


def describe_hardware(
    kernel: Kernel, *, memory: int, append: str = "", cpu: str = "", progress: Progress
) -> Hardware:
    """The machine that boots `kernel`; `cpu` is QEMU's -cpu, by default `LKM_LAB_CPU`'s."""
    architecture = find_architecture(kernel.series.architecture)
    hardware = Hardware(
        architecture=architecture,
        kernel=kernel.file("vmlinuz"),
        initrd=_initrd(kernel, architecture, progress),
        modules=kernel.file("modules.img"),
        memory=memory,
        append=append,
        cpu=cpu or os.environ.get("LKM_LAB_CPU", ""),
    )
    return replace(hardware, accelerator=_accelerator(hardware, progress))


def start_session(hardware: Hardware, *, share: str | None, deliver: bool) -> Session:
    """Start QEMU with disks of its own, blank where there is nothing to `deliver`."""
    directory = scratch_directory()
    try:
        disk = os.path.join(directory, "share")
        mounts = {}
        if deliver:
            mounts["/dev/vdb"] = "/usr/lib/lkm"
            package = package_image()
        else:
            package = sparse_file(os.path.join(directory, "package"), PACKAGE_SIZE)
        if share is not None:
            mounts["/dev/vdc"] = "/share"
            share_image(share, disk)
        else:
            sparse_file(disk, SHARE_SIZE)
        return Session(Machine.start(replace(hardware, package=package, share=disk), directory), mounts)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def boot_guest(hardware: Hardware, *, share: str | None = None, deliver: bool, progress: Progress) -> Session:
    """Boot and wait for the agent. Raises GuestDied or GuestTimeout when a second attempt ends no better.

    Emulated processors make some kernels panic or hang at random (seen with QEMU 7.2 and 6.12).
    """
    for last in (False, True):
        session = start_session(hardware, share=share, deliver=deliver)
        try:
            idle = BOOT_TIMEOUT + (FIRMWARE_TIMEOUT if hardware.variables else 0)
            session.wait_ready(idle * _crowding())
            if deliver:
                session.adopt()
        except BaseException as error:
            session.close()
            if isinstance(error, (GuestTimeout, GuestDied)) and not last:
                progress(f"the boot {'hangs' if isinstance(error, GuestTimeout) else 'fails'}: once more")
                continue
            raise
        return session
    raise AssertionError("unreachable")


def _crowding() -> float:
    """How many times longer than alone a guest takes here, by who else wants a processor: 1 and more."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _initrd(kernel: Kernel, architecture: Architecture, progress: Progress) -> str:
    """The drivers of this kernel and the guest's root in one file: QEMU takes only one."""
    parts = (kernel.file("drivers.cpio"), base_initramfs(architecture, progress))
    states = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in parts]
    path = os.path.join(cache_dir("initrd"), f"{kernel.release}-{content_key(states)}")
    size = sum(os.stat(part).st_size for part in parts)
    with locked(f"initrd-{kernel.release}"):
        if not os.path.exists(path) or os.stat(path).st_size != size:
            prune(os.path.dirname(path))
            with open(f"{path}.new", "wb") as stream:
                for part in parts:
                    with open(part, "rb") as source:
                        shutil.copyfileobj(source, stream)
            os.replace(f"{path}.new", path)
    return use(path)


def _accelerator(hardware: Hardware, progress: Progress) -> str:
    """`kvm` if a guest boots with it here, else `tcg`; `LKM_LAB_ACCELERATOR` overrides. The answer is cached.

    /dev/kvm can be there and be broken, so nothing but a boot tells.
    """
    if hardware.architecture != host_architecture():
        return "tcg"
    chosen = os.environ.get("LKM_LAB_ACCELERATOR", "")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    key = content_key(qemu_identity(hardware.architecture.emulator), os.uname().release, os.uname().version)
    path = os.path.join(cache_dir(), "accelerator.json")
    with locked("accelerator"):
        try:
            with open(path, encoding="utf-8") as stream:
                cached = json.load(stream)
            if cached["key"] == key:
                return str(cached["accelerator"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        progress("trying whether KVM works here")
        answer = "kvm" if _boots(replace(hardware, accelerator="kvm")) else "tcg"
        with open(f"{path}.new", "w", encoding="utf-8") as stream:
            json.dump({"key": key, "accelerator": answer}, stream)
        os.replace(f"{path}.new", path)
    return answer


def _boots(hardware: Hardware) -> bool:
    """Whether a guest comes up. QEMU may fail to start, or stay, stopped in the state internal-error."""
    session = start_session(hardware, share=None, deliver=False)
    try:
        end = time.monotonic() + PROBE_TIMEOUT
        while time.monotonic() < end and session.machine.monitor.execute("query-status")["running"]:
            if _is_ready(session):
                return True
    except (GuestDied, LabError):
        pass
    finally:
        session.close()
    return False


def _is_ready(session: Session) -> bool:
    try:
        session.wait_ready(0.5)
    except GuestTimeout:
        return False
    return True
