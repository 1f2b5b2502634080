# SPDX-License-Identifier: MIT
"""What happens when something that a module registered outlives it: the event that makes the kernel crash."""

from __future__ import annotations

from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["event_of"]

_K = RegistrationKind

# Seen in guests unless the words say "would".
EVENTS = {
    _K.MISC: "the next open of any misc device walks the list through the freed entry {name!r} and oopses, "
    "holding misc_mtx",
    _K.CHRDEV: "the next open of a device node of {name!r} calls freed code and oopses",
    _K.BLOCK: "the next access to the block device {name!r} would call freed code",
    _K.INTERRUPT: "the next interrupt of {name!r} calls freed code: a panic, in interrupt context",
    _K.HRTIMER: "the timer {name!r} fires into freed memory: a panic at once",
    _K.FILESYSTEM: "the next mount, or look at /proc/filesystems, walks through the freed entry {name!r}",
    _K.CRYPTO: "the next look-up of an algorithm, or look at /proc/crypto, walks through the freed {name!r}",
    _K.INTERFACE: "the next use of the interface {name!r}, a look at it included, calls freed code",
    _K.PROC_ENTRY: "the first look at {name} oopses",
    _K.PROTOCOL: "the next socket of the protocol {name!r} would call freed code",
    _K.DRIVER: "the next probe, removal or shutdown of a device of the driver {name!r} calls freed code",
    _K.TIMER: "the timer that calls {name!r} comes due and panics the kernel",
    _K.WORK: "the work {name!r} comes due and panics the kernel",
    _K.NOTIFIER: "the next event that is announced by {name!r} calls freed code",
    _K.TRACE_EVENT: "the next event that {name!r} is switched by, or copied to, would use freed memory",
    _K.DEVICE: "the next look at, or removal of, the device {name!r} would call freed code",
}


def event_of(registration: Registration) -> str:
    """The event, in words, that would crash the kernel if the module went and this stayed."""
    return EVENTS[registration.kind].format(name=registration.name)
