# SPDX-License-Identifier: MIT
"""Run both sides on one machine, and say where they differ."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

from tests.machine.fake import Answer, Machine

FULL = os.environ.get("LKM_EXAMPLES", "")
"""How many examples instead of the few of an ordinary run."""


def examples(few: int) -> settings:
    """The settings of a test that asks two tools an example."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = (
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
        Phase.shrink,
    )  # without explain, which takes minutes
    return settings(max_examples=int(FULL or few), deadline=None, suppress_health_check=checks, phases=phases)


@contextlib.contextmanager
def a_machine() -> Iterator[Machine]:
    """A made-up machine, empty."""
    top = tempfile.mkdtemp(prefix="lkm-machine-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        yield Machine(Path(top))
    finally:
        shutil.rmtree(top)


_LIBRARY = re.compile(
    r"^\w+: \w+: \.\./libkmod/.*\n"  # up to 33, with a line of source
    r"|^libkmod: .*\n"
    r"|^\w+: ERROR: could not remove '.*\n",  # 34, before the tool says the same
    re.MULTILINE,
)


def without_library(answer: Answer) -> Answer:
    """An answer of kmod without the lines of its library, which its releases word differently.

    34 begins each part of a line about users with the tool's name again; that is undone.
    """
    text = _LIBRARY.sub("", answer.err)
    return answer._replace(err=re.sub(r"(?<!^)rmmod: ERROR: (?= |$)", "", text, flags=re.MULTILINE))


def without_notes(answer: Answer) -> Answer:
    """An answer without `TOOL: NOTICE: why` on standard error."""
    return answer._replace(err=re.sub(r"^\w+: NOTICE: .*\n", "", answer.err, flags=re.MULTILINE))


def in_modprobes_name(answer: Answer) -> Answer:
    """An answer of modprobe with what kmod's library says under the tool's name, and without lines of source."""
    err = re.sub(r"^libkmod: (\w+)(?: \S+:\d+)?:? \w+: ", r"modprobe: \1: ", answer.err, flags=re.MULTILINE)
    err = re.sub(r"^(\w+: \w+: )\.\./libkmod/\S+:\d+ \w+\(\) ", r"\1", err, flags=re.MULTILINE)
    return answer._replace(err=err)


def as_34(answer: Answer) -> Answer:
    """kmod's answer as `in_modprobes_name`, without what 34 says by mistake, and where 30 means another errno."""
    err = in_modprobes_name(answer).err
    err = re.sub("(?<=.)rmmod: ERROR: ", "", err)  # 34 takes each word behind "in use by:" for a message
    err = re.sub(r"^rmmod: ERROR: could not remove '.*\n", "", err, flags=re.MULTILINE)  # 34 says it twice
    err = re.sub(
        r"^\w+: ERROR: could not open '/sys/module/.*\n", "", err, flags=re.MULTILINE
    )  # it is not loaded
    err = re.sub("(could not get modversions of .*: )No such file or directory", r"\1No data available", err)
    return answer._replace(err=err)


def without_bad_lines(answer: Answer) -> Answer:
    """Without complaints of the configuration: kmod's library makes them before it knows of -q and -s, and in
    tools that have no use for a configuration."""
    bad = "ignoring bad line|not parsed anymore|Ignoring bad option"
    return answer._replace(err=re.sub(rf"^\w+: ERROR: .*({bad}).*\n", "", answer.err, flags=re.MULTILINE))


def check_alike(machine: Machine, *argv: str) -> Answer:
    """As `check_same`, for what kmod 30 and 34 word differently, or say too early.

    kmod recurses without end where the alias of a module that a soft dependency names leads back, and dies of it:
    then lkm is to end as a tool does, with no call that kmod did not make.
    """
    expected, found = as_34(machine.kmod(*argv)), without_notes(machine.lkm(*argv))
    if expected.code == -signal.SIGSEGV:
        assert found.code in (0, 1), (argv, found)
        assert set(found.calls.splitlines()) <= set(expected.calls.splitlines()), (argv, found)
        return found
    if argv[0] != "modprobe" or {"-q", "-s"} & set(argv):
        expected, found = without_bad_lines(expected), without_bad_lines(found)
    assert found == expected, "\n".join((" ".join(argv), f"kmod: {expected}", f"lkm:  {found}"))
    return expected


def check_same(machine: Machine, *argv: str, **variables: str) -> Answer:
    """Both say and do the same, but for the lines that lkm marks as its own; what kmod did."""
    expected = as_34(machine.kmod(*argv, **variables))
    found = without_notes(machine.lkm(*argv, **variables))
    assert found == expected, "\n".join((" ".join(argv), f"kmod: {expected}", f"lkm:  {found}"))
    return expected
