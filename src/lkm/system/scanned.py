# SPDX-License-Identifier: MIT
"""What a scan of kernel memory found: values, JSON-serialisable. `lkm.system.scan` makes them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

from lkm.names import ModuleName
from lkm.values import Address

__all__ = ["Hit", "HitClass", "Place", "PlaceKind", "Scan"]


class PlaceKind(Enum):
    """Whose memory a word lies in."""

    KERNEL = "kernel"  # the kernel's own data
    PER_CPU = "per-cpu"
    MODULE = "module"  # another module's memory
    SLAB = "slab"  # an object of a cache
    STACK = "stack"  # of a task
    VMALLOC = "vmalloc"
    EARLY = "early"  # given out at boot, outside of the kernel's image
    PAGE = "page"  # whole pages that somebody allocated: page tables, buffers
    PROCESS = "process"  # a process's own memory: no pointer of the kernel's
    PAGE_CACHE = "page-cache"  # a file's data: no pointer of the kernel's
    FREE = "free"


class Place(NamedTuple):
    """Where a word is.

    address  of the word, as the kernel uses it: in the image, in vmalloc, or in the linear map
    name     symbol, cache, or command of the task; `offset` bytes from it, or from `start`
    start    of the object, stack or block; `size` its bytes, 0 where that is not known
    shared   the cache has other types of objects too: its name may be of another one
    live     True: it is in use. False: a free object, a free page, below a stack pointer. None: unknown
    """

    kind: PlaceKind
    address: Address
    name: str = ""
    offset: int = 0
    start: Address = 0
    size: int = 0
    module: str = ""
    cpu: Optional[int] = None
    pid: Optional[int] = None
    live: Optional[bool] = None
    shared: bool = False

    def __str__(self) -> str:
        offset = f"+{self.offset:#x}" if self.offset else ""
        if self.kind in (PlaceKind.KERNEL, PlaceKind.MODULE):
            return f"{self.name or hex(self.address)}{offset}" + (f" [{self.module}]" if self.module else "")
        if self.kind is PlaceKind.PER_CPU:
            what = f"{self.name or 'per-CPU data'}{offset}" + (f" [{self.module}]" if self.module else "")
            return what + (f" of CPU {self.cpu}" if self.cpu is not None else "")
        if self.kind is PlaceKind.SLAB:
            return f"{self.name} object {self.start:#x}{offset}"
        if self.kind is PlaceKind.STACK:
            return f"the stack of {self.name}" + (f" (pid {self.pid})" if self.pid is not None else "")
        return f"{self.kind.value} {self.address:#x}"


class HitClass(Enum):
    """What a pointer into a module is to a removal."""

    LIVE = "live"  # in a live object of a known kind: it would be followed
    UNKNOWN = "unknown"  # in use, but nobody knows by whom
    EXPECTED = "expected"  # the removal itself takes it away, or nobody follows it
    STALE = "stale"  # in what is not in use any more


class Hit(NamedTuple):
    """A word of RAM that points into the module.

    value   what it is, and `target` the symbol of the module there
    what    what the place is, in words: `dentry.d_fsdata of entry`, `timer_bases …`
    event   what happens when it is followed, for a live one
    registered  it belongs to something that is among the registrations, with an event of its own
    reason  why it is expected: the function that removes it, with the release it was read in
    """

    value: Address
    target: str
    place: Place
    found: HitClass
    what: str = ""
    event: str = ""
    reason: str = ""
    registered: bool = False


class Scan(NamedTuple):
    """One search of RAM for pointers into `module`.

    searched   bytes; `free`, `users` and `own` bytes of RAM left out as free, as processes' memory and files' data,
               and as the module's own
    dropped    words with such a value that are in no kernel object: free pages, memory of processes, files
    changed    words that were no pointers any more when their places were told
    kept       objects that the module points to, allocated: `target` is its variable, `place` the object
    error      why there was none; then nothing else is said
    """

    module: ModuleName
    hits: tuple[Hit, ...] = ()
    searched: int = 0
    free: int = 0
    own: int = 0
    seconds: float = 0.0
    dropped: int = 0
    notes: tuple[str, ...] = ()
    changed: int = 0
    kept: tuple[Hit, ...] = ()
    error: str = ""
    users: int = 0

    def of(self, found: HitClass) -> tuple[Hit, ...]:
        """The hits of that class."""
        return tuple(hit for hit in self.hits if hit.found is found)
