# SPDX-License-Identifier: MIT
"""Runs in the guest: loads each mutant, and tells errno and what the kernel said. Standard library only.

    python3 runner.py DIRECTORY < list.json

The list is [{"file", "parameters"}], the files are in DIRECTORY; the answers go to stdout, a JSON object a line.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time

# arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h
FINIT, DELETE = (273, 106) if os.uname().machine == "aarch64" else (313, 176)
libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """0 or the errno."""
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *arguments) < 0 else 0


def loaded() -> set[str]:
    with open("/proc/modules", encoding="utf-8") as stream:
        return {line.split()[0] for line in stream}


def drain(kmsg: int) -> list[str]:
    """What the kernel has said since the last time."""
    lines: list[str] = []
    while True:
        try:
            record = os.read(kmsg, 8192)
        except BlockingIOError:
            return lines
        except BrokenPipeError:  # overtaken: go on with the oldest that is left
            continue
        lines.append(record.decode("utf-8", "backslashreplace").partition(";")[2].split("\n")[0])


def remove(names: set[str]) -> int:
    """0, or the errno with which one cannot be removed; something may use it for a moment."""
    for name in names:
        for _ in range(20):
            number = call(DELETE, name.encode(), os.O_NONBLOCK)
            if not number:
                break
            time.sleep(0.1)
        else:
            return number
    return 0


def main(directory: str) -> None:
    entries = json.load(sys.stdin)
    kmsg = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
    with open("/proc/sys/kernel/printk_devkmsg", "w", encoding="ascii") as stream:
        stream.write("on\n")  # marks are not to be limited in their rate
    before = loaded()
    drain(kmsg)
    for entry in entries:
        handle = os.open(os.path.join(directory, entry["file"]), os.O_RDONLY)
        number = call(FINIT, handle, entry["parameters"].encode(), 0)
        os.close(handle)
        os.write(kmsg, b"lkm mark\n")  # a line without a newline is held back until the next one
        lines = drain(kmsg)
        removed = remove(loaded() - before)
        drain(kmsg)
        print(
            json.dumps({"file": entry["file"], "errno": number, "lines": lines, "removed": removed}),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1])
