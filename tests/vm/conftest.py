# SPDX-License-Identifier: MIT
"""Tests on real kernels. Each test that asks for `guest` has a clone of its own, with the faults in /share.

By default everything runs on the newest kernel and a chosen few on the others, so that a run stays short;
with `--all-kernels` everything runs on every kernel, and what is repeated is repeated a hundred times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lkm.lab.fault_modules import fault_modules
from lkm.lab.vm import Guest

KERNELS = ("5.10", "6.1")
HERE = Path(__file__).parent


CHOSEN = (
    "a dead dependent", "init died: bug_mod1", "a load waits for its symbol", "its exit died", "its exit runs",
    "no exit: none_exit", "held by an open file", "1 references leaked", "a count below zero", "its timer is armed",
    "test_edits_are_made", "test_a_dry_run", "test_what_a_dead_init_left_behind", "module files of another build",
)  # fmt: skip
"""What runs on every kernel by default: one of each kind of rescue and refusal."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything here needs a virtual machine; what is not chosen is left out, and counted by pytest."""
    left_out = []
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)
            if not config.getoption("--all-kernels") and not _is_chosen(item):
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_chosen(item: pytest.Item) -> bool:
    """Whatever runs on the newest kernel, or on no kernel in particular, and the chosen few of the others."""
    call = getattr(item, "callspec", None)
    kernel = call.params.get("kernel", KERNELS[-1]) if call else KERNELS[-1]
    return kernel == KERNELS[-1] or any(name in item.name for name in CHOSEN)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """Each of the two kernels that everything is tested on."""
    return str(request.param)


@pytest.fixture
def faults(kernel: str) -> str:
    """The directory of the modules that get stuck, built for `kernel`."""
    return os.path.dirname(fault_modules(kernel)[0])


@pytest.fixture
def guest(kernel: str, faults: str) -> Iterator[Guest]:
    """A fresh clone, with the faults in /share."""
    with Guest.clone(kernel, share=faults) as guest:
        yield guest
