# SPDX-License-Identifier: MIT
"""What the demo shows: a row a module, with what is done to it and what is expected of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = ["KILLED", "ROWS", "Load", "Rescue", "Row"]

KILLED = 137
"""Exit code of a command that an oops has killed: 128 + SIGKILL."""

DIED_EDITS = ("exit", "init", "refcnt", "state")


@dataclass(frozen=True)
class Load:
    """One insmod: the module, its parameters, and the exit code that it should have."""

    module: str
    parameters: tuple[str, ...] = ()
    code: int = 0


@dataclass(frozen=True)
class Rescue:
    """One `lkm rescue`, and what should come of it.

    arguments  beside the module's name
    code       exit code
    edits      the fields that are written, in order
    reason     words that its reason must have
    removed    the modules whose removal the plan has, in order; empty: only the row's own
    """

    outcome: str
    code: int = 0
    arguments: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()
    reason: str = ""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A module, the steps, and what is expected.

    name        the module; what rmmod, why and rescue are asked about
    about       what is wrong with it, in a few words
    loads       how it gets into the kernel
    line        what /proc/modules says after its name and size
    rmmod       exit code of rmmod; None: it never returns
    complaint   words that rmmod's message must have
    left        what /proc/modules says after rmmod where it differs from `line`
    codes       findings of lkm why
    verdict     verdict of lkm why
    rescues     the rescues, one after the other; the last decides how it ends
    release     a file of the guest that, written, gives what a blocked exit waits for
    again       the loads that prove that the name is free
    unloads     modules that rmmod then removes, as they are healthy this time
    """

    name: str
    about: str
    loads: tuple[Load, ...]
    line: str
    rmmod: Optional[int]
    complaint: str
    codes: tuple[str, ...]
    verdict: str
    rescues: tuple[Rescue, ...]
    left: str = ""
    release: str = ""
    again: tuple[Load, ...] = ()
    unloads: tuple[str, ...] = ()

    @property
    def oopses(self) -> bool:
        """Whether something dies or hangs, so that the guest is not to be used for the next row."""
        return self.rmmod in (None, KILLED) or any(load.code for load in self.loads)


def _init_dies(name: str, about: str) -> Row:
    load = Load(name, code=KILLED)
    return Row(
        name=name,
        about=about,
        loads=(load,),
        line="1 - Loading",
        rmmod=1,
        complaint=f"Module {name} is in use",
        codes=("init-died",),
        verdict="safe",
        rescues=(Rescue("rescued", edits=DIED_EDITS),),
        again=(load,),
    )


def _permanent(name: str, about: str) -> Row:
    return Row(
        name=name,
        about=about,
        loads=(Load(name),),
        line="0 [permanent], Live",
        rmmod=1,
        complaint="Device or resource busy",
        codes=("no-exit",),
        verdict="safe",
        rescues=(Rescue("rescued", edits=("init",)),),
        again=(Load(name),),
    )


ROWS = (
    _init_dies("bug_mod1", "its init dies in an oops"),
    _permanent("bug_mod2", "it has an init and no exit"),
    Row(
        name="decmod",
        about="nothing is wrong with it",
        loads=(Load("decmod"),),
        line="0 - Live",
        rmmod=0,
        complaint="",
        codes=(),
        verdict="removable",
        rescues=(Rescue("removed"),),
        again=(Load("decmod"),),
        unloads=("decmod",),
    ),
    _permanent("none_exit", "its exit was written but not registered"),
    _init_dies("kerneloops", "its init reads through a NULL pointer"),
    _init_dies("createoops", "a function that its init calls stores to NULL"),
    Row(
        name="leak_ref",
        about="it holds a reference on itself for ever",
        loads=(Load("leak_ref"),),
        line="1 - Live",
        rmmod=1,
        complaint="Module leak_ref is in use",
        codes=("unexplained-references",),
        verdict="safe",
        rescues=(Rescue("rescued", edits=("refcnt",)),),
        again=(Load("leak_ref", ("count=0",)),),
        unloads=("leak_ref",),
    ),
    Row(
        name="provider",
        about="healthy, but dead_dependent, which uses it, died in its init",
        loads=(Load("provider"), Load("dead_dependent", code=KILLED)),
        line="1 dead_dependent, Live",
        rmmod=1,
        complaint="Module provider is in use by: dead_dependent",
        codes=("dependents",),
        verdict="refuse",
        rescues=(
            Rescue("refused", code=3, reason="dead_dependent"),
            Rescue(
                "rescued",
                arguments=("--with-dependents",),
                edits=DIED_EDITS,
                removed=("dead_dependent", "provider"),
            ),
        ),
        again=(Load("provider"), Load("dependent")),
        unloads=("dependent", "provider"),
    ),
    Row(
        name="exit_oops",
        about="its exit dies in an oops",
        loads=(Load("exit_oops"),),
        line="0 - Live",
        rmmod=KILLED,
        complaint="",
        left="-1 - Unloading",
        codes=("exit-died",),
        verdict="safe",
        rescues=(Rescue("rescued", edits=DIED_EDITS),),
        again=(Load("exit_oops"),),
    ),
    Row(
        name="exit_block",
        about="its exit waits for what nobody gives",
        loads=(Load("exit_block"),),
        line="0 - Live",
        rmmod=None,
        complaint="",
        left="-1 - Unloading",
        codes=("exit-running",),
        verdict="refuse",
        rescues=(Rescue("refused", code=3, reason="its removal is in progress, in rmmod"),),
        release="/sys/module/exit_block/parameters/release",
        again=(Load("exit_block", ("release=1",)),),
        unloads=("exit_block",),
    ),
)
"""In the order in which they are shown."""
