# SPDX-License-Identifier: MIT
"""What one modprobe is about: its settings, how it tells what it does, and how it runs commands."""

from __future__ import annotations

import os
import sys

from lkm.cli.kmod import log
from lkm.system.module_state import LIVE, read_state
from lkm.tree.probe import Prober

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.cli.kmod.common import CommandLine
    from lkm.tree.probe import Candidate
    from lkm.tree.tree import Tree

__all__ = ["Ended", "Job"]


class Ended(Exception):
    """A fatal message has been said: nothing more is done."""


class Job:
    """The settings of one command line, and what it has done so far (`actions`, for --json).

    reasons   why the last load failed, in more words than an errno has

    show      say each step: with -D, or with -v
    complain  says what ends the tool, but what is a warning only with -a, and then it goes on
    """

    def __init__(self, tree: Tree, line: CommandLine) -> None:
        self.tree = tree
        self.every_softdep = line.has("all-softdeps")
        self.depends_only = line.has("D")
        self.dry_run = self.depends_only or line.has("n")
        self.ignore_loaded = self.depends_only
        self.ignore_commands = line.has("i")
        self.lookup_only = line.has("R")
        self.first_time = line.has("first-time")
        self.use_blacklist = line.has("b")
        self.force = line.has("f")
        self.force_modversion = self.force or line.has("force-modversion")
        self.force_vermagic = self.force or line.has("force-vermagic")
        self.remove_holders = line.has("remove-holders")
        self.wait_ms = 0
        self.json = line.has("json")
        self.quiet = line.has("q")
        self.show = self.depends_only or (line.verbose > 0 and not self.quiet)
        self.actions: list[dict[str, str]] = []
        self.reasons: list[str] = []
        self._all = line.has("a")
        self._told = len(tree.config.problems)

    def prober(self) -> Prober:
        """A new one: what is found for one name has no effect on the next."""
        return Prober(self.tree, every_softdep=self.every_softdep)

    def complain(self, text: str, why: str = "") -> None:
        """Something that cannot be done, and why. Raises Ended if it has been said as fatal."""
        if self._all:
            log.warning(text)
        else:
            log.fatal(text)
        if why:
            log.note(why)
        if not self._all and not self.quiet:
            raise Ended

    def tell_problems(self, prober: Prober | None = None) -> None:
        """What the tree's indexes, and the prober, came upon since the last time."""
        found = self.tree.problems
        for problem in found[self._told :]:
            log.error(problem)
        self._told = len(found)
        if prober is not None:
            for problem in prober.problems:
                log.error(problem)
            prober.problems.clear()

    def act(self, action: str, module: str, text: str, **details: str) -> None:
        """A step: `text` if steps are shown."""
        if self.json:
            self.actions.append({"action": action, "module": module, **details})
        elif self.show:
            log.write(text + "\n")

    def in_kernel(self, candidate: Candidate) -> bool:
        """Whether it is there and done with its init: live, or built in."""
        return candidate.builtin or read_state(candidate.name) == LIVE

    def run_command(self, candidate: Candidate, command: str) -> int:
        """Run a command of the configuration by the shell; its exit code, 0 for one that was killed, as in kmod.

        What it prints comes after what has been said so far; kmod's own lines come last where they go to a file.
        """
        import signal

        if sys.stdout is not None:  # the kernel starts it without
            sys.stdout.flush()
        os.environ["MODPROBE_MODULE"] = candidate.name
        # Python ignores them, and what it starts would inherit that: `yes | head` would complain.
        before = [
            (number, signal.signal(number, signal.SIG_DFL))
            for number in (
                signal.SIGPIPE,
                signal.SIGXFSZ,
                signal.SIGCHLD,
            )  # without the last no exit code is told
        ]
        try:
            return os.system(command) >> 8 & 0xFF
        finally:
            for number, handler in before:
                signal.signal(number, handler)
            del os.environ["MODPROBE_MODULE"]
