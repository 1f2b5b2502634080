# SPDX-License-Identifier: MIT
"""Who uses the trace events of modules: triggers that switch one on or off, and event probes (tracefs).

Each has a reference (trace_event_try_get_ref of event_enable_trigger_parse and of the event probes, 5.10 to 7.x) that
no other file shows. Which events are whose, the names of functions tell: `__traceiter_NAME` is in the module.
"""

from __future__ import annotations

import glob
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
_TRIGGER = re.compile(r"^((?:enable|disable)_event:([^:\s]+):([^:\s]+))", re.MULTILINE)
_PROBE = re.compile(r"^e\S*:(\S+) ([^\s./]+)[./](\S+)", re.MULTILINE)
_MARK = "__traceiter_"
_SECONDS = 5.0


def read_trace_events(root: Root, memory: Optional[KernelMemory], owners: Owners) -> Iterator[Registration]:
    """Trace events of modules that somebody uses, with one user each. Only where a module with events has references:
    there are a thousand files to be read. Raises `LkmError`."""
    mine = _events(root, memory, owners)
    directory = next((each for each in _DIRECTORIES if read_text(root.join(f"{each}/trace_clock"))), "")
    if not mine or not directory:
        return
    result = run_in_child(lambda: _read(root, directory), seconds=_SECONDS, name="lkm-trace")
    if not result.ok:
        raise LkmError(f"{directory}: {result.error}")
    for source, text in result.value:
        for event, release in _users(source, text):
            module = mine.get(event.partition(":")[2])
            if module:
                yield Registration(
                    RegistrationKind.TRACE_EVENT,
                    event,
                    module,
                    certain=True,
                    source=source,
                    detail=release,
                    users=1,
                )


def _events(root: Root, memory: Optional[KernelMemory], owners: Owners) -> dict[str, ModuleName]:
    """Name of each event → its module, of modules that have references."""
    if memory is None or not memory.has_symbols:
        return {}
    return {
        name[len(_MARK) :]: module.name
        for module in owners.modules
        if module.refcnt and read_text(root.join(f"/sys/module/{module.name}/sections/_ftrace_events"))
        for _, name in memory.symbols.module_symbols(module.name)
        if name.startswith(_MARK)
    }


def _read(root: Root, directory: str) -> list[tuple[str, str]]:
    """Path and text of each file that tells of users, as far as it has any."""
    top = root.join("/")
    paths = [f"{directory}/dynamic_events"]
    paths += [
        "/" + path[len(top) :].lstrip("/") for path in glob.glob(root.join(f"{directory}/events/*/*/trigger"))
    ]
    texts = ((path, read_text(root.join(path)) or "") for path in paths)
    return [(path, text) for path, text in texts if _TRIGGER.search(text) or _PROBE.search(text)]


def _users(source: str, text: str) -> Iterator[tuple[str, str]]:
    """Event, `system:name`, and how to let it go, of each user in that file."""
    for command, system, name in _TRIGGER.findall(text):
        yield f"{system}:{name}", f"echo '!{command}' > {source}"
    for probe, system, name in _PROBE.findall(text):
        yield f"{system}:{name}", f"echo '-:{probe}' >> {source}"
