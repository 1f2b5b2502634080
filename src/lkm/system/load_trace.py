# SPDX-License-Identifier: MIT
"""Whether a load reached the module's init: the tracepoint module:module_load, which fires just before it.

Source: load_module in kernel/module.c (5.10) and kernel/module/main.c: trace_module_load(mod), then
do_init_module(mod). A tracing instance of our own, so that nobody's trace is disturbed.
"""

from __future__ import annotations

import os

from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.child import run_in_child

__all__ = ["LoadTrace"]

SECONDS = 2.0
CHILD = "lkm-trace"
PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class LoadTrace:
    """Watches the load of one module, as a context. Where there is no tracefs, it sees nothing.

    Whatever enters tracefs does so in a child with a deadline: a dead task may hold its locks.
    """

    def __init__(self, root: Root, name: ModuleName) -> None:
        self._name = name
        self._instance = ""
        for place in PLACES:
            folder = root.join(f"{place}/instances")
            if os.path.isdir(folder):
                self._instance = os.path.join(folder, f"lkm-{os.getpid()}")
                break

    def __enter__(self) -> LoadTrace:  # noqa: PYI034  (Self is 3.11's)
        if self._instance and not run_in_child(self._set_up, seconds=SECONDS, name=CHILD).ok:
            self._instance = ""
        return self

    def __exit__(self, *_: object) -> None:
        if self._instance:
            # An instance that is left behind costs a buffer, and nothing is to be done about it here.
            run_in_child(self._remove, seconds=SECONDS, name=CHILD)
            self._instance = ""

    def init_reached(self) -> bool | None:
        """Whether the kernel has come to the module's init since; None if nobody could watch."""
        if not self._instance:
            return None
        result = run_in_child(self._has_event, seconds=SECONDS, name=CHILD)
        return bool(result.value) if result.ok else None

    def _set_up(self) -> None:
        os.mkdir(self._instance)
        event = os.path.join(self._instance, "events/module/module_load")
        try:
            _write(os.path.join(event, "filter"), f'name == "{self._name}"')
            _write(os.path.join(event, "enable"), "1")
        except OSError:
            self._remove()
            raise

    def _has_event(self) -> bool:
        with open(os.path.join(self._instance, "trace"), encoding="utf-8", errors="replace") as stream:
            return any("module_load:" in line for line in stream if not line.startswith("#"))

    def _remove(self) -> None:
        _write(os.path.join(self._instance, "events/enable"), "0")
        os.rmdir(self._instance)


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
