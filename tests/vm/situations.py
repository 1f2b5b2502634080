# SPDX-License-Identifier: MIT
"""Situations of state: absent, healthy, used by others; its init or exit has died, still runs, is missing."""

from __future__ import annotations

from tests.vm.situation import Moment, Situation, refused, removed, rescued

__all__ = ["SITUATIONS"]

NOT_LOADED = Moment("none", 1, "not-loaded", 1, findings=("not-loaded",))


def _init_died(module: str) -> Situation:
    """Its init dies; it is rescued; its name is free, and its file can be loaded as before."""
    again = (f"dies insmod {module}.ko", f"is {module} coming")
    return Situation(
        f"init died: {module}",
        module,
        (rescued(module, "init-died", steps=again), rescued(module, "init-died", steps=again)),
    )


def _no_exit(module: str) -> Situation:
    return Situation(
        f"no exit: {module}",
        module,
        (rescued(module, "no-exit", steps=(f"insmod {module}.ko",), after=('unsaid "never called"',)),),
    )


_DEAD_DEPENDENT = ("insmod provider.ko", "dies insmod dead_dependent.ko", "is dead_dependent coming")
_SYMBOL_WAITER = (
    "dies insmod dead_provider.ko",
    "insmod symbol_waiter.ko 2>/tmp/waiter & waiter=$!",
    'waits() { grep -Eq "resolve_symbol|simplify_symbols|load_module" /proc/$waiter/stack; }',
    "within 10 waits",
    "echo waiter=$waiter",
)

SITUATIONS = (
    Situation("not loaded", "decmod", (NOT_LOADED,)),
    Situation("built in", "tcp_cubic", (NOT_LOADED,)),
    Situation(
        "healthy",
        "decmod",
        (
            removed("decmod", steps=("insmod decmod.ko",), after=('said "decmod: unloaded"',)),
            removed("decmod", steps=("insmod decmod.ko",)),
        ),
    ),
    Situation(
        "a dash in its name",
        "dash-name",
        (removed("dash_name", steps=("insmod dash-name.ko",), after=('said "dash_name: unloaded"',)),),
    ),
    Situation(
        "a live dependent",
        "provider",
        (
            refused(
                "dependents",
                steps=("insmod provider.ko", "insmod dependent.ko"),
                holders=({"kind": "module", "module": "dependent", "state": "live"},),
                after=("is provider live", "is dependent live"),
            ),
            Moment(
                "refuse", 1, "removed", 0,
                findings=("dependents",),
                rescue=("--with-dependents",),
                after=("gone provider", "gone dependent",
                       'dmesg | grep -A1 "dependent: unloaded" | grep -q "provider: unloaded"'),
            ),
        ),
    ),
    Situation(
        "a dead dependent",
        "provider",
        (
            refused(
                "dependents",
                steps=_DEAD_DEPENDENT,
                holders=({"module": "dead_dependent", "state": "coming"},),
                after=("is provider live", "is dead_dependent coming"),
            ),
            Moment(
                "refuse", 1, "rescued", 0,
                findings=("dependents",),
                rescue=("--with-dependents",),
                after=("gone provider", "gone dead_dependent", 'said "provider: unloaded"'),
            ),
        ),
    ),
    Situation(
        "a live and a dead dependent",
        "provider",
        (
            Moment(
                "refuse", 1, "rescued", 0,
                steps=(*_DEAD_DEPENDENT, "insmod dependent.ko"),
                findings=("dependents",),
                holders=({"module": "dead_dependent", "state": "coming"}, {"module": "dependent", "state": "live"}),
                rescue=("--with-dependents",),
                after=("gone provider", "gone dead_dependent", "gone dependent",
                       'said "dependent: unloaded"', 'said "provider: unloaded"'),
            ),
        ),
    ),
    Situation(
        "the dead dependent alone",
        "dead_dependent",
        (rescued("dead_dependent", "init-died", steps=_DEAD_DEPENDENT, after=('[ "$(count_of provider)" = 0 ]',)),),
    ),
    _init_died("bug_mod1"),
    _init_died("kerneloops"),
    _init_died("createoops"),
    Situation(
        "its init runs",
        "slow_init",
        (
            refused(
                "init-running",
                steps=("insmod slow_init.ko seconds=30 & loader=$!", "within 10 is slow_init coming",
                       "within 5 asleep $loader", "echo loader=$loader"),
                absent=("init-died", "waiter"),
                holders=({"pid": "$loader", "command": "insmod slow_init.ko seconds=30"},),
                after=("is slow_init coming", "! ended $loader"),
            ),
            removed("slow_init", steps=("within 60 is slow_init live", "within 5 ended $loader")),
        ),
    ),
    Situation(  # of another file: since 6.5 a load of the same one may follow what the dead one left in idem_hash
        "its init died, and a load waits for its name",
        "bug_mod1",
        (
            rescued(
                "bug_mod1",
                "init-died", "waiter",
                steps=("dies insmod bug_mod1.ko", "cp bug_mod1.ko /tmp/again.ko",
                       "insmod /tmp/again.ko 2>/tmp/waiter & waiter=$!", "within 10 asleep $waiter",
                       "sleep 0.5", "echo waiter=$waiter"),
                absent=("init-running",),
                holders=({"pid": "$waiter"},),
                words=("waits for its name",),
                after=("within 10 ended $waiter", 'grep -Eq "File exists|resource busy" /tmp/waiter',
                       '[ "$(dmesg | grep -c "bug_mod1: init begins")" = 1 ]'),
            ),
        ),
    ),
    Situation(
        "its init died, and a load waits for its symbol",
        "dead_provider",
        (
            rescued(
                "dead_provider",
                "init-died", "waiter",
                steps=_SYMBOL_WAITER,
                absent=("init-running",),
                holders=({"pid": "$waiter"},),
                words=("its symbol dead_provider_answer",),
                after=("within 10 ended $waiter", "gone symbol_waiter", 'grep -q "Unknown symbol" /tmp/waiter',
                       'unsaid "symbol_waiter: answer"'),
            ),
        ),
    ),
    Situation(
        "it waits for a symbol",
        "symbol_waiter",
        (
            refused(
                "unformed",
                steps=_SYMBOL_WAITER,
                holders=({"pid": "$waiter"},),
                after=("! ended $waiter", "is dead_provider coming"),
            ),
        ),
    ),
    Situation(
        "its exit died",
        "exit_oops",
        (
            rescued("exit_oops", "exit-died",
                    steps=("insmod exit_oops.ko", "dies rmmod exit_oops", "is exit_oops going")),

        ),
    ),
    Situation(
        "its exit runs",
        "exit_block",
        (
            refused(
                "exit-running",
                steps=("insmod exit_block.ko", "rmmod exit_block & remover=$!", "within 10 is exit_block going",
                       "within 5 asleep $remover", "echo remover=$remover"),
                absent=("exit-died",),
                holders=({"pid": "$remover", "command": "rmmod exit_block"},),
                after=("is exit_block going", "echo 1 >/sys/module/exit_block/parameters/release",
                       "within 10 gone exit_block", "within 5 ended $remover"),
            ),
        ),
    ),
    _no_exit("bug_mod2"),
    _no_exit("none_exit"),
)  # fmt: skip
