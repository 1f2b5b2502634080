# SPDX-License-Identifier: MIT
"""modprobe -r: a module, what depends on it in name only, and what nobody uses once it is gone."""

from __future__ import annotations

import os
import time
from errno import EAGAIN, EBUSY, EEXIST, ENOENT

from lkm.cli.kmod import log
from lkm.formats.modprobe_conf import BadName
from lkm.system.direct_calls import delete_module_here
from lkm.system.module_state import read_holders, read_refcnt, read_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.cli.kmod.modprobe_job import Job
    from lkm.tree.probe import Candidate, Prober

__all__ = ["remove_all"]


def remove_all(job: Job, names: list[str]) -> bool:
    """Whether all went well. Goes on after what did not, unless that was fatal."""
    return not sum([_remove_name(job, name) != 0 for name in names])


def _remove_name(job: Job, name: str) -> int:
    prober = job.prober()
    try:
        found = prober.lookup(name)
    except BadName:
        return ENOENT
    job.tell_problems(prober)
    if not found:
        job.complain(f"Module {name} not found.")
        return ENOENT
    for candidate in found:
        code = _Removal(job, prober).run(candidate, holders=job.remove_holders)
        if code:
            return code
    return 0


class _Removal:
    """One removal with all that it brings. Each step returns an errno, 0 for success."""

    def __init__(self, job: Job, prober: Prober) -> None:
        self._job = job
        self._prober = prober
        self._active: set[str] = set()

    def run(self, candidate: Candidate, *, holders: bool = False, stop_at_builtin: bool = True) -> int:
        """Post-softdeps, holders, the module, dependencies that are unused now, pre-softdeps."""
        if candidate.name in self._active:  # softdeps that lead back here
            return 0
        self._active.add(candidate.name)
        try:
            return self._run(candidate, holders=holders, stop_at_builtin=stop_at_builtin)
        finally:
            self._active.discard(candidate.name)

    def _run(self, candidate: Candidate, *, holders: bool, stop_at_builtin: bool) -> int:
        before: list[Candidate] = []
        after: list[Candidate] = []
        command = ""
        if not self._job.ignore_commands:
            before, after = self._prober.softdeps(candidate)
            self._job.tell_problems(self._prober)
            command = candidate.remove.value if candidate.remove else ""
        if not command and not self._job.ignore_loaded:
            there, code = self._check_there(candidate, stop_at_builtin=stop_at_builtin)
            if not there:
                return code
        self._run_list(after)
        if holders:
            names = read_holders(candidate.name)
            code = self._run_list([self._prober.candidate(name) for name in names], stop=True)
            if code:
                return code
        code = self._remove_itself(candidate, command)
        if not code and not command:
            self._remove_unused(candidate)
        if not code:
            self._run_list(before)
        return code

    def _run_list(self, candidates: list[Candidate], *, stop: bool = False) -> int:
        for candidate in reversed(candidates):
            code = self.run(candidate, stop_at_builtin=False)
            if code and stop:
                return code
        return 0

    def _check_there(self, candidate: Candidate, *, stop_at_builtin: bool) -> tuple[bool, int]:
        """Whether it is loaded, and what that means if not."""
        if candidate.builtin:
            if stop_at_builtin:
                self._job.complain(f"Module {candidate.name} is builtin.")
                return False, ENOENT
            return False, 0
        if read_state(candidate.name):
            return True, 0
        if self._job.first_time:
            self._job.complain(f"Module {candidate.name} is not in kernel.")
            return False, ENOENT
        return False, 0

    def _remove_itself(self, candidate: Candidate, command: str) -> int:
        if command:
            return self._run_command(candidate, command)
        if not self._job.ignore_loaded and not self._job.wait_ms and (read_refcnt(candidate.name) or 0) > 0:
            why = f"lkm why {candidate.name} says what is in the way"
            self._job.complain(f"Module {candidate.name} is in use.", why)
            return EBUSY
        return self._delete(candidate.name)

    def _run_command(self, candidate: Candidate, command: str) -> int:
        text = command.replace("$CMDLINE_OPTS", "")
        self._job.act("remove", candidate.name, f"remove {text}", command=text)
        code = 0 if self._job.dry_run else self._job.run_command(candidate, text)
        if code:
            self._job.complain(f"Error running remove command for {candidate.name}")
        return code

    def _remove_unused(self, candidate: Candidate) -> None:
        for each in self._prober.dependencies(candidate):
            if read_refcnt(each.name) == 0:
                self._delete(each.name)

    def _delete(self, name: str) -> int:
        job = self._job
        job.act("rmmod", name, f"rmmod {name}")
        if job.dry_run:
            return 0
        flags = os.O_NONBLOCK | (os.O_TRUNC if job.force else 0)
        code = delete_module_here(name, flags)
        if code == EAGAIN and job.wait_ms:
            code = _retry(name, flags, job.wait_ms / 1000)
        if code and not (code == EEXIST and job.wait_ms):
            log.error(f"could not remove '{name}': {os.strerror(code)}")
        if code == EEXIST:
            if job.first_time:
                job.complain(f"Module {name} is not in kernel.")
            return EEXIST if job.first_time else 0
        return code


def _retry(name: str, flags: int, seconds: float) -> int:
    """Try again until the time is over: after a millisecond, then after twice as long each time."""
    end = time.monotonic() + seconds
    pause = 0.001
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return EAGAIN
        time.sleep(min(pause, left))
        code = delete_module_here(name, flags)
        if code != EAGAIN:
            return code
        pause *= 2
