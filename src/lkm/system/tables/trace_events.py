# SPDX-License-Identifier: MIT
"""Who uses the trace events of modules: triggers that switch one on or off, and event probes (tracefs).

Each has a reference (trace_event_try_get_ref of event_enable_trigger_parse and of the event probes, 5.10 to 7.x) that
no other file shows. Which events are whose, the names of functions tell: `__traceiter_NAME` is in the module.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from typing import Optional

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.root import Root
from lkm.system.child import run_in_child
from lkm.system.files import read_text
from lkm.system.memory import KernelMemory
from lkm.system.owners import Owners
from lkm.system.snapshot import Registration, RegistrationKind

__all__ = ["read_trace_events"]

_DIRECTORIES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_TRIGGERS = ("events/*/*/trigger", "instances/*/events/*/*/trigger")
_PROBES = "dynamic_events"
_TRIGGER = re.compile(r"^((?:enable|disable)_(?:event|hist):([^:\s]+):([^:\s]+))", re.MULTILINE)
_PROBE = re.compile(r"^e\S*:(\S+) ([^\s./]+)[./](\S+)", re.MULTILINE)
_MARK = "__traceiter_"
_SECONDS = 5.0


def read_trace_events(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Trace events of modules that somebody uses, one for each user. Only where a module with events has references:
    there are a thousand files to be read, and each takes locks that a dead task may hold. Raises `LkmError`."""
    mine = _events(root, memory, owners)
    if not mine:
        return
    result = run_in_child(lambda: _read(root), seconds=_SECONDS, name="lkm-trace")
    if not result.ok:
        raise LkmError(f"{_DIRECTORIES[0]}: {result.error}")
    if result.value is None:
        raise LkmError(f"{_DIRECTORIES[0]}: the users of trace events cannot be read")
    for source, text in result.value:
        for event, release in _users(source, text):
            modules = mine.get(event.partition(":")[2], ())
            for module in modules:
                yield Registration(
                    RegistrationKind.TRACE_EVENT,
                    event,
                    module,
                    certain=len(modules) == 1,
                    source=source,
                    detail=release,
                    users=1,
                )


def _events(root: Root, memory: Optional[KernelMemory], owners: Owners) -> dict[str, list[ModuleName]]:
    """Name of each event → the modules that have one of that name, of those with references."""
    found: dict[str, list[ModuleName]] = {}
    if memory is None or not memory.has_symbols:
        return found
    for module in owners.modules:
        if module.refcnt and read_text(root.join(f"/sys/module/{module.name}/sections/_ftrace_events")):
            for address, name in memory.symbols.module_symbols(module.name):
                if name.startswith(_MARK) and module.owns(address):  # what it imports is elsewhere
                    found.setdefault(name[len(_MARK) :], []).append(module.name)
    return found


def _read(root: Root) -> Optional[list[tuple[str, str]]]:
    """Path and text of each file that tells of users, as far as it has any; None where they cannot be read."""
    for directory in _DIRECTORIES:
        top = root.join(directory)
        paths = [os.path.join(top, _PROBES)]
        for pattern in _TRIGGERS:
            paths += glob.glob(os.path.join(glob.escape(top), pattern))
        texts = [(path, text) for path in paths if (text := read_text(path)) is not None]
        if texts:
            return [
                (directory + path[len(top) :], text)
                for path, text in texts
                if _TRIGGER.search(text) or _PROBE.search(text)
            ]
    return None


def _users(source: str, text: str) -> Iterator[tuple[str, str]]:
    """Event, `system:name`, and how to let it go, of each user in that file."""
    if source.endswith(_PROBES):
        for probe, system, name in _PROBE.findall(text):
            yield f"{system}:{name}", f"echo '-:{probe}' >> {source}"
    else:
        for command, system, name in _TRIGGER.findall(text):
            yield f"{system}:{name}", f"echo '!{command}' > {source}"
