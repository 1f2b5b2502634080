# SPDX-License-Identifier: MIT
"""Snapshot → the step that heals the kernel's table of files being loaded (`lkm.system.load_table`). Pure.

Under idem_lock, of each bucket that leads to a dead entry, or in which somebody waits for one:

    a file whose loader lives   its entries stay, linked to each other and to the head, the dead between them left out
    a file whose loader died    its waiters are taken out as idempotent_complete does it: next = pprev = 0
                                (hlist_del_init, since 6.11; 6.5 to 6.10 use hlist_del, and poison them),
                                ret = -ECANCELED, complete(); their finit_module(2) then fails, and they go on

Every link that changes and every waiter is expected to be as it was read, so whoever came or went in between stops
the edits. A waiter that a signal wakes waits for idem_lock before its entry goes (idempotent_wait_for_completion,
since 6.11; idempotent_init_module of 6.5 to 6.10 waits uninterruptibly), so under the lock every entry is there.

The lock is taken by the kernel's functions for that. arm64 without CONFIG_PREEMPTION has none: what they do stands at
each place that calls them (ARCH_INLINE_SPIN_TRYLOCK, arch/arm64/Kconfig, 6.5 to 7.x). There the helper does it too.

A lock whose holder is dead keeps everybody else out, as if it were ours: the same edits are made under it, and it is
released at last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from lkm.diagnosis.findings import FindingCode, Verdict
from lkm.diagnosis.policy import edit_policy_findings
from lkm.names import ModuleName
from lkm.rescue.complete import complete_plan
from lkm.rescue.edits import conditional
from lkm.rescue.helper import TAKES_QUEUED_LOCKS
from lkm.rescue.plan import Argument, Call, Edit, EditKind, Lock, Plan, Step, StepKind
from lkm.rescue.request import Request
from lkm.rescue.table import MAX_ENTRIES
from lkm.system.snapshot import LoadBucket, LoadNode, LoadTable, Snapshot

__all__ = ["describe_table", "plan_heal", "plan_healing", "plan_healing_after"]

NO_MODULE = ModuleName("")
"""What a step is about that is about no module."""

ECANCELED = 125
RELEASE = "copy_to_kernel_nofault"
LOCK_ENTRIES = 2
"""What a dead lock takes: that it is expected, and its release."""
LATER = "load no module file until then: insmod and modprobe use finit_module(2)"


def plan_heal(snapshot: Snapshot) -> Optional[Step]:
    """The step, of verdict `refuse` where there is no sound way now; None where nothing is to be healed."""
    table = snapshot.load_table
    if table is None or not table.present or table.sound:
        return None
    obstacle = next(_obstacles(snapshot, table), None)
    if obstacle is not None:
        return _step(table, Verdict.REFUSE, obstacle.reason, obstacle.remedy)
    work = _work(table)
    if table.sick and not work.writes:
        reason = f"it takes more than the {MAX_ENTRIES} edits and calls that one helper makes"
        return _step(table, Verdict.REFUSE, reason, f"restart when you can; {LATER}")
    edits, ended = list(work.edits), work.ended
    address = snapshot.symbols
    after = [
        Call("complete", address["complete"], (Argument(node.address + table.layout.complete),))
        for node in ended
    ]
    left = len(table.orphans) - len(ended)
    reason = describe_table(table) + (f" ({len(ended)} now, {left} in the next rounds)" if left else "")
    step = _step(table, Verdict.SAFE, reason, "")._replace(lock=_lock(snapshot, table))
    if step.lock is Lock.NONE:
        edits = [_check("idem_lock", table.lock, 4, table.lock_word), *edits]
        byte = (Argument(table.lock, shown="idem_lock"), Argument(text=""), Argument(1))
        after.append(Call(RELEASE, address[RELEASE], byte, must_return_zero=True))
    return step._replace(edits=tuple(edits), after=tuple(after))


def describe_table(table: LoadTable) -> str:
    """What is wrong with it, in a sentence without end."""
    parts = []
    count = len(table.dangling)
    if count:
        where = ", ".join(str(bucket.number) for bucket in table.dangling)
        parts.append(
            f"the entry of a dead load dangles in idem_hash (bucket {where})" if count == 1
            else f"entries of dead loads dangle in idem_hash (buckets {where})"
        )  # fmt: skip
    if table.lock_held:
        parts.append("idem_lock is held for good: the next finit_module(2) would spin for ever")
    orphans = table.orphans
    if orphans:
        who = "one that died" if count != 1 else "it"
        parts.append(f"{_pids(orphans)} {'waits' if len(orphans) == 1 else 'wait'} for {who}")
    return "; ".join(parts) or "nothing dangles in idem_hash, and idem_lock is free"


def plan_healing(snapshot: Snapshot) -> Optional[Plan]:
    """The plan of `lkm heal`: that one step; None where nothing is to be healed."""
    step = plan_heal(snapshot)
    return complete_plan(snapshot, NO_MODULE, [step], Request()) if step else None


def plan_healing_after(snapshot: Snapshot, steps: Sequence[Step]) -> tuple[list[Step], list[str]]:
    """The step after those of a rescue, where one of its modules died in its load, and what is to be known: an
    entry that has to stay does not hinder the rescue."""
    heal = plan_heal(snapshot)
    if heal is None:
        return [], []
    if not any(FindingCode.INIT_DIED.value in step.findings for step in steps):
        table = snapshot.load_table
        wrong = table is not None and (table.sick or table.lock_held)
        return [], [f"{describe_table(table)}: see lkm heal"] if table is not None and wrong else []
    if heal.verdict is not Verdict.REFUSE:
        return [heal], []
    warning = (
        "the file whose load died must not be loaded by finit_module(2) again (insmod, modprobe and lkm load use "
        f"that): its entry in idem_hash may dangle, and cannot be healed: {heal.reason}; {heal.remedy}"
    )
    return [], [warning]


class _Work(NamedTuple):
    """What one helper does: its edits, and the waiters that they take out."""

    edits: tuple[Edit, ...] = ()
    ended: tuple[LoadNode, ...] = ()

    @property
    def size(self) -> int:
        """Entries of its table: each waiter is woken by a call."""
        return len(self.edits) + len(self.ended)

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return any(edit.kind is not EditKind.CHECK for edit in self.edits)


class _Obstacle(NamedTuple):
    reason: str
    remedy: str


def _obstacles(snapshot: Snapshot, table: LoadTable) -> Iterator[_Obstacle]:
    """Why it cannot be healed now, the most basic reason first."""
    policy = snapshot.policy
    if table.error:
        yield _Obstacle(table.error, table.remedy or "restart when you can")
    if policy.modules_disabled:
        yield _Obstacle("loading is disabled until the next boot", "it cannot be set back; restart")
    for finding in edit_policy_findings(policy):
        yield _Obstacle(finding.summary, finding.remedy)
    if table.preempt_rt:
        yield _Obstacle(
            "this kernel is PREEMPT_RT: idem_lock is an rt_mutex, which the helper does not take",
            f"restart when you can; {LATER}",
        )
    yield from _missing(snapshot, table)
    yield from _lock_obstacles(table)
    for node in table.unclear:
        yield _Obstacle(
            f"what pid {node.pid} ({node.command}) does with its load changes, or cannot be told",
            f"try again, or when pid {node.pid} has ended",
        )


def _lock(snapshot: Snapshot, table: LoadTable) -> Lock:
    """What the edits are made under, and so how it is taken."""
    if table.lock_dead:
        return Lock.NONE
    there = all(snapshot.symbols.get(name) for name in Lock.IDEM_LOCK.functions)
    return Lock.IDEM_LOCK if there else Lock.IDEM_LOCK_INLINE


def _missing(snapshot: Snapshot, table: LoadTable) -> Iterator[_Obstacle]:
    """What has no address. A function that takes or releases a lock has none where it is inlined: on x86_64
    _raw_spin_unlock without CONFIG_PREEMPTION, on arm64 without that both (kernel/Kconfig.locks, 6.5 to 7.x)."""
    hidden = [name for name in ("idem_lock", "complete", RELEASE) if not snapshot.symbols.get(name)]
    if hidden:
        yield _Obstacle(
            f"/proc/kallsyms does not have {', '.join(hidden)}",
            "set kernel.kptr_restrict to 1 or 0; where that is so, restart when you can",
        )
    if _lock(snapshot, table) is not Lock.IDEM_LOCK_INLINE:
        return
    inlined = ", ".join(name for name in Lock.IDEM_LOCK.functions if not snapshot.symbols.get(name))
    reason = (
        f"/proc/kallsyms does not have {inlined}: this kernel has what it does at each place that calls it"
    )
    if snapshot.machine not in TAKES_QUEUED_LOCKS:
        yield _Obstacle(reason, f"restart when you can; {LATER}")
    elif not table.lock_queued:
        what = f"{reason}, and idem_lock ({table.lock_size} bytes) is no queued spinlock, as the helper takes one"
        yield _Obstacle(what, f"restart when you can; {LATER}")


def _lock_obstacles(table: LoadTable) -> Iterator[_Obstacle]:
    if not table.lock_held:
        return
    if table.running:
        who = ", ".join(map(str, table.running))
        yield _Obstacle(
            f"idem_lock is held, and a live task runs in finit_module(2), so that it may hold it (pid {who})",
            f"try again when it has ended; should it spin for ever, restart; {LATER}",
        )
    if table.lock_word != 1 or table.lock_size != 4:
        yield _Obstacle(
            f"idem_lock is held for good, and it is not a plain lock that nobody waits for "
            f"({table.lock_word:#x}, {table.lock_size} bytes)",
            f"restart when you can; {LATER}",
        )


def _work(table: LoadTable) -> _Work:
    """Of each sick bucket as much as one helper has room for; a later one goes on from there."""
    room = MAX_ENTRIES - LOCK_ENTRIES
    done = _Work()
    for bucket in table.sick:
        part = _part(table, bucket, room - done.size)
        done = _Work(done.edits + part.edits, done.ended + part.ended)
    return done


def _part(table: LoadTable, bucket: LoadBucket, room: int) -> _Work:
    """The bucket's repair with as many of its waiters taken out as there is room for; the others stay linked.

    What reaches the dead goes in any case; nothing is done where there is no room for that.
    """
    order = _in_order(table, bucket)
    waiting = [node for node in order if node in table.orphans]
    for count in range(len(waiting), -1, -1):
        ended = tuple(waiting[:count])
        edits = _relink(table, bucket, tuple(node for node in order if node not in ended))
        for node in ended:
            edits += _take_out(table, node)
        part = _Work(tuple(edits), ended)
        if part.size <= room:
            return part
    return _Work()


def _in_order(table: LoadTable, bucket: LoadBucket) -> list[LoadNode]:
    """What is reached first, then what stands behind the dead, by address."""
    own = {node.address: node for node in table.nodes if node.bucket == bucket.number}
    order = [own[address] for address in bucket.chain if address in own]
    return order + [node for address, node in sorted(own.items()) if address not in bucket.chain]


def _relink(table: LoadTable, bucket: LoadBucket, kept: tuple[LoadNode, ...]) -> list[Edit]:
    """The head and the entries that stay, one after the other.

    An entry whose links stay is not looked at: under idem_lock, who comes changes the head (hlist_add_head), and who
    goes changes its neighbours (hlist_del), so what is between such entries is as it was read, or as sound.
    """
    link = table.layout.entry
    head = table.head_of(bucket.number)
    entries = [node.address + link for node in kept]
    edits = [conditional(f"idem_hash[{bucket.number}]", head, 8, bucket.head, entries[0] if entries else 0)]
    for node, after, before in zip(kept, [*entries[1:], 0], [head, *entries]):
        entry = node.address + link
        if (node.next, node.previous) == (after, before):
            continue
        edits += [
            _check(f"cookie of pid {node.pid}", node.address + table.layout.cookie, 8, node.cookie),
            conditional(f"next of pid {node.pid}", entry, 8, node.next, after),
            conditional(f"pprev of pid {node.pid}", entry + 8, 8, node.previous, before),
        ]
    return edits


def _take_out(table: LoadTable, node: LoadNode) -> list[Edit]:
    """A waiter that nobody will wake. That it is still queued, and not woken yet, is expected."""
    layout, entry = table.layout, node.address + table.layout.entry
    return [
        _check(f"cookie of pid {node.pid}", node.address + layout.cookie, 8, node.cookie),
        _check(f"queue of pid {node.pid}", node.address + layout.queue, 8, node.queue),
        _check(f"done of pid {node.pid}", node.address + layout.complete, 4, node.done),
        conditional(f"next of pid {node.pid}", entry, 8, node.next, 0),
        conditional(f"pprev of pid {node.pid}", entry + 8, 8, node.previous, 0),
        conditional(f"ret of pid {node.pid}", node.address + layout.ret, 4, node.ret, -ECANCELED),
    ]


def _step(table: LoadTable, verdict: Verdict, reason: str, remedy: str) -> Step:
    return Step(
        module=NO_MODULE,
        address=table.table,
        findings=(),
        verdict=verdict,
        reason=reason,
        remedy=remedy,
        exit_runs=False,
        kind=StepKind.HEAL,
        lock=Lock.IDEM_LOCK,
    )


def _check(field: str, address: int, width: int, value: int) -> Edit:
    return conditional(field, address, width, value, value)


def _pids(nodes: Iterable[LoadNode]) -> str:
    return ", ".join(f"pid {node.pid} ({node.command})" for node in nodes)
