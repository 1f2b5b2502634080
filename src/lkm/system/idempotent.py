# SPDX-License-Identifier: MIT
"""Reads the kernel's table of files being loaded (`lkm.system.load_table`): what dangles in it, and who waits.

An entry is a dead task's when it stays where it is over several looks, and at each of them no live thread in
finit_module(2) has it on its stack. Its content tells nothing: the stack is freed, or another task's by now.
What stands behind a dead entry cannot be reached either, so the stacks of the live are searched.

Who loads is told by the functions that it is in. That nobody is in the queue of its completion is not enough: a
waiter is linked (`idempotent`) before it gets into its queue, and leaves it when it is woken.

`ret` begins as 0 (`idempotent`, 6.5), or as -EINTR since the wait can be interrupted (6.11, and stable releases of
6.6 and 6.10). What `idempotent_complete` takes out is poisoned by hlist_del (6.5 to 6.10) or has a `pprev` of 0
(hlist_del_init, since 6.11): neither is taken for a linked entry. `struct idempotent` itself has not changed from
6.5 to 7.3.
"""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from lkm.errors import LkmError
from lkm.root import Root
from lkm.system.files import read_number, read_text
from lkm.system.load_table import BUCKETS, LoadBucket, LoadNode, LoadRole, LoadTable, NodeLayout, hash_of
from lkm.system.memory import KernelMemory, is_kernel_pointer
from lkm.system.tasks import parse_frames
from lkm.system.thread_stacks import Stacks, Thread, read_stacks

__all__ = ["read_load_table"]

LOOKS = 5
FULL_LOOKS = 3
PAUSE = 0.03
"""Seconds between two looks: the table is locked for microseconds, and an entry stays as long as its load."""
_TRIES = 3
_LOCK_BYTE = 0xFF
_FIRST_RET = (0, -4)

_LOADING = frozenset(("load_module", "init_module_from_file", "do_init_module"))
"""Functions that only who loads is in (idempotent_init_module, 6.5 to 7.x); the second may be inlined."""

FramesOf = Callable[[int], Sequence[str]]
"""Thread → the functions that it is in; none where it runs on a CPU, or has ended."""


class _Look(NamedTuple):
    """One look: heads, lock, and the entries of live threads."""

    heads: tuple[int, ...]
    lock: int
    nodes: dict[int, LoadNode] = {}  # noqa: RUF012  (a NamedTuple's default, never changed)
    running: tuple[int, ...] = ()


def read_load_table(
    root: Root,
    memory: KernelMemory,
    *,
    looks: int = LOOKS,
    pause: float = PAUSE,
    machine: str = "",
    own_tid: int = 0,
    search: bool = False,
    frames_of: Optional[FramesOf] = None,
) -> LoadTable:
    """The table now. Never raises: what is missing is its `error`.

    A table that is empty, or changes, takes one or two reads; stacks are looked at only where an entry stays. With
    `search` they are in any case, where they can be: an entry that no bucket leads to is found by that alone.
    `frames_of` is, by default, what /proc/TID/stack tells.
    """
    frames_of = frames_of or (lambda tid: _functions(root, tid))
    try:
        return _Table(root, memory, machine, own_tid, frames_of).read(looks, pause, search=search)
    except LkmError as error:
        return LoadTable(error=error.message, remedy=error.remedy)


class _Table:
    """One reading."""

    def __init__(
        self, root: Root, memory: KernelMemory, machine: str, own_tid: int, frames_of: FramesOf
    ) -> None:
        self._root = root
        self._memory = memory
        self._machine = machine
        self._own = own_tid
        self._frames_of = frames_of
        self._at = memory.symbols.address("idem_hash")
        self._lock = memory.symbols.address("idem_lock")

    def read(self, looks: int, pause: float, *, search: bool) -> LoadTable:
        memory = self._memory
        if not self._at:
            return _without_symbol(memory)
        found = LoadTable(
            table=self._at,
            lock=self._lock,
            preempt_rt=_is_realtime(self._root, memory),
            layout=_layout(memory),
        )
        search = search and memory.has_types
        taken = [self._quick()]
        for _ in range(looks - 1):
            if not _stays(taken) and not search:
                return found
            time.sleep(pause)
            taken.append(self._quick())
        if not _stays(taken) and not search:
            return found
        held = all(look.lock & _LOCK_BYTE for look in taken)
        found = found._replace(
            lock_held=held,
            lock_word=taken[-1].lock,
            lock_size=_lock_size(memory),
            lock_queued=_is_queued(memory),
        )
        try:
            full = []
            for _ in range(FULL_LOOKS):
                full.append(self._full(found.layout))
                time.sleep(pause)
        except LkmError as error:
            return found._replace(error=error.message, remedy=error.remedy)
        return self._conclude(found, [*taken, *full], full)

    def _quick(self) -> _Look:
        heads = self._memory.words(self._at, BUCKETS)
        return _Look(heads, self._memory.u32(self._lock) if self._lock else 0)

    def _full(self, layout: NodeLayout) -> _Look:
        """Heads before the threads: an entry that is there belongs to a thread that is there."""
        for left in range(_TRIES - 1, -1, -1):
            before = self._quick()
            stacks = read_stacks(self._memory, machine=self._machine, own_tid=self._own)
            try:
                nodes = {node.address: node for node in self._nodes(stacks, layout)}
            except LkmError:  # a thread has ended in between: the next look is without it
                if not left:
                    raise
                continue
            break
        running = tuple(thread.tid for thread in stacks.loading if thread.running)
        return before._replace(nodes=nodes, running=running)

    def _nodes(self, stacks: Stacks, layout: NodeLayout) -> list[LoadNode]:
        found = []
        for thread in stacks.loading:
            own = _nodes_on(self._memory.read(thread.stack, stacks.size), thread, layout)
            if any(node.role is LoadRole.LOADER for node in own) and not self._loads(thread):
                own = [node._replace(role=LoadRole.UNCLEAR) for node in own]
            if len(own) > 1:
                own = [node._replace(role=LoadRole.UNCLEAR) for node in own]
            found += own
        return found

    def _loads(self, thread: Thread) -> bool:
        """Whether its stack shows that it loads. One that runs shows none (x86), or an old one (arm64)."""
        return not thread.running and bool(_LOADING & set(self._frames_of(thread.tid)))

    def _conclude(self, table: LoadTable, every: Sequence[_Look], full: Sequence[_Look]) -> LoadTable:
        steady, nodes = _steady_heads(every), _united(full)
        used = {node.bucket for node in nodes.values()}
        heads = {index: head for index, head in steady.items() if head or index in used}
        buckets = tuple(_walk(index, head, nodes, table.layout) for index, head in sorted(heads.items()))
        return table._replace(
            lock_word=every[-1].lock,
            lock_held=all(look.lock & _LOCK_BYTE for look in every),
            buckets=buckets,
            nodes=tuple(nodes[address] for address in sorted(nodes) if nodes[address].bucket in heads),
            running=tuple(sorted({tid for look in full for tid in look.running})),
        )


def _without_symbol(memory: KernelMemory) -> LoadTable:
    """No idem_hash: this kernel has none, or kallsyms leaves out data (CONFIG_KALLSYMS_ALL)."""
    there = memory.symbols.address("idempotent_init_module") or (
        memory.has_types and memory.has("idempotent", "cookie")
    )
    if not there:
        return LoadTable(present=False)
    return LoadTable(
        error="idem_hash is not in /proc/kallsyms",
        remedy="restart when you can; a kernel with CONFIG_KALLSYMS_ALL shows it",
    )


def _layout(memory: KernelMemory) -> NodeLayout:
    """From BTF; as in every release so far where there is none."""
    if not memory.has_types or not memory.has("idempotent", "cookie"):
        return NodeLayout()
    return NodeLayout(
        cookie=memory.offset("idempotent", "cookie"),
        entry=memory.offset("idempotent", "entry"),
        complete=memory.offset("idempotent", "complete"),
        queue=memory.offset("idempotent", "complete.wait.task_list"),
        ret=memory.offset("idempotent", "ret"),
        size=memory.sizeof("idempotent"),
    )


def _is_realtime(root: Root, memory: KernelMemory) -> bool:
    """Whether spinlock_t is an rt_mutex (include/linux/spinlock_types.h): it then has `lock`, else `rlock`."""
    if memory.has_types and memory.has("spinlock", "lock"):
        return True
    return read_number(root.join("/sys/kernel/realtime")) == 1


def _lock_size(memory: KernelMemory) -> int:
    """Bytes of a spinlock: 4, more where the kernel is made to find misuse of locks; 0: not known."""
    try:
        return memory.sizeof("raw_spinlock")
    except LkmError:
        return 0


def _is_queued(memory: KernelMemory) -> bool:
    """Whether a spinlock is a queued one and no more (include/asm-generic/qspinlock_types.h, 4.2 to 7.x)."""
    try:
        return (
            memory.sizeof("spinlock") == memory.sizeof("raw_spinlock") == 4
            and memory.offset("spinlock", "rlock.raw_lock.locked") == 0
            and memory.offset("spinlock", "rlock.raw_lock.tail") == 2
        )
    except LkmError:
        return False


def _steady_heads(looks: Sequence[_Look]) -> dict[int, int]:
    """The buckets that had the same first entry, or none, at every look."""
    first = enumerate(looks[0].heads)
    return {i: head for i, head in first if all(look.heads[i] == head for look in looks)}


def _stays(looks: Sequence[_Look]) -> bool:
    """Whether an entry, or the lock, was there at every look."""
    return any(_steady_heads(looks).values()) or all(look.lock & _LOCK_BYTE for look in looks)


def _nodes_on(data: bytes, thread: Thread, layout: NodeLayout) -> list[LoadNode]:
    """Every linked struct idempotent on a stack, told by its pointers: into the stack itself for its queue."""
    count = len(data) // 8
    words = struct.unpack(f"<{count}Q", data[: 8 * count])
    top = thread.stack + len(data)
    cookie, link = layout.cookie // 8, layout.entry // 8
    complete, queue = layout.complete // 8, layout.queue // 8
    found = []
    for at in range(count - layout.size // 8 + 1):
        if not is_kernel_pointer(words[at + cookie]) or not is_kernel_pointer(words[at + link + 1]):
            continue
        head = words[at + queue : at + queue + 2]
        if not all(thread.stack <= word < top for word in head):
            continue
        next_ = words[at + link]
        ret, lock = _ret(data, 8 * at + layout.ret), words[at + complete + 1] & 0xFFFFFFFF
        if (next_ and not is_kernel_pointer(next_)) or ret not in _FIRST_RET or lock:
            continue
        address = thread.stack + 8 * at
        own = address + layout.queue
        node = LoadNode(
            address=address,
            cookie=words[at + cookie],
            next=next_,
            previous=words[at + link + 1],
            queue=head[0],
            done=words[at + complete] & 0xFFFFFFFF,
            ret=ret,
            role=LoadRole.LOADER if head == (own, own) else LoadRole.WAITER,
            pid=thread.tid,
            command=thread.command,
        )
        found.append(node)
    return found


def _functions(root: Root, tid: int) -> tuple[str, ...]:
    text = read_text(root.join(f"/proc/{tid}/stack"))
    return tuple(frame.function for frame in parse_frames(text or ""))


def _ret(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)


def _united(looks: Sequence[_Look]) -> dict[int, LoadNode]:
    """Every entry that a live thread had at some look: as at the last one, its part unclear where it changed, and
    where two would load the same file."""
    found: dict[int, LoadNode] = {}
    for look in looks:
        found.update(look.nodes)
    for address, node in found.items():
        seen: list[Optional[LoadNode]] = [look.nodes.get(address) for look in looks]
        if any(other != node for other in seen):
            found[address] = node._replace(role=LoadRole.UNCLEAR)
    loading = Counter(node.cookie for node in found.values() if node.role is LoadRole.LOADER)
    for address, node in found.items():
        if loading[node.cookie] > 1:
            found[address] = node._replace(role=LoadRole.UNCLEAR)
    return found


def _walk(index: int, head: int, nodes: dict[int, LoadNode], layout: NodeLayout) -> LoadBucket:
    """From the head along live entries, as long as each is one of this bucket and comes for the first time."""
    chain: list[int] = []
    entry = head
    while entry:
        address = entry - layout.entry
        node = nodes.get(address)
        if node is None or hash_of(node.cookie) != index or address in chain:
            return LoadBucket(index, head, tuple(chain), entry)
        chain.append(address)
        entry = node.next
    return LoadBucket(index, head, tuple(chain), 0)
