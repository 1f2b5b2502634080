# SPDX-License-Identifier: MIT
"""Whether a load reached the module's init: the tracepoint module:module_load, which fires just before it.

Source: load_module in kernel/module.c (5.10) and kernel/module/main.c: trace_module_load(mod), then
do_init_module(mod). A tracing instance of our own, so that nobody's trace is disturbed.
"""

from __future__ import annotations

import os

from lkm.names import ModuleName
from lkm.root import Root

__all__ = ["LoadTrace"]

PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class LoadTrace:
    """Watches the load of one module, as a context. Where there is no tracefs, it sees nothing."""

    def __init__(self, root: Root, name: ModuleName) -> None:
        self._name = name
        self._instance = ""
        for place in PLACES:
            folder = root.join(f"{place}/instances")
            if os.path.isdir(folder):
                self._instance = os.path.join(folder, f"lkm-{os.getpid()}")
                break

    def __enter__(self) -> LoadTrace:  # noqa: PYI034  (Self is 3.11's)
        if self._instance:
            try:
                os.mkdir(self._instance)
                event = os.path.join(self._instance, "events/module/module_load")
                _write(os.path.join(event, "filter"), f'name == "{self._name}"')
                _write(os.path.join(event, "enable"), "1")
            except OSError:
                self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def init_reached(self) -> bool | None:
        """Whether the kernel has come to the module's init since; None if nobody could watch."""
        if not self._instance:
            return None
        try:
            with open(os.path.join(self._instance, "trace"), encoding="utf-8", errors="replace") as stream:
                return any("module_load:" in line for line in stream if not line.startswith("#"))
        except OSError:
            return None

    def _remove(self) -> None:
        if self._instance:
            try:
                _write(os.path.join(self._instance, "events/enable"), "0")
                os.rmdir(self._instance)
            except OSError:
                pass  # an instance left behind costs a buffer, and nothing is to be done about it here
            self._instance = ""


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
