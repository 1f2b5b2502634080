# SPDX-License-Identifier: MIT
"""Tests on real kernels. Each test that asks for `guest` has a clone of its own, with the faults in /share.

By default everything runs on one kernel and a chosen few on some others, so that a run stays short. With
`--all-kernels` everything runs on every kernel of the lab, and what is repeated is repeated a hundred times;
`--kernels 6.12,7.3` does that on those alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lkm.lab.fault_modules import fault_modules
from lkm.lab.series import SERIES, find_series
from lkm.lab.vm import Guest

HERE = Path(__file__).parent

MAIN = "6.1"
"""The kernel that everything runs on."""

ARM64 = "6.1-arm64"
KERNELS = ("5.10", MAIN, "7.3", ARM64)
"""Those that something runs on by default."""

CPUS = {"6.1-arm64-pauth": ("6.1-arm64", "max,pauth-impdef=on")}
"""Kernels on another processor than usual: series, and QEMU's -cpu."""

CHOSEN = (
    "the dead dependent alone", "init died: bug_mod1", "a load waits for its symbol", "its exit died",
    "no exit: none_exit", "1 references leaked", "its timer is armed", "test_edits_are_made",
    "left_behind_is_found_and_named[7.3]", "written[5.10-module files of another build",
    "test_a_rescue_ends_with_a_heal[7.3]", "names_are_told[7.3]", "test_modprobe_follows_its_configuration[7.3]",
    "as_kbuild_makes_them_and_load[7.3]",
)  # fmt: skip
"""What runs on the others by default: one of each kind of rescue and refusal."""

CHOSEN_ON_ARM64 = ("test_edits_are_made", "init died: bug_mod1")


RARE = (
    "test_a_name_of_55_characters", "test_an_init_that_sleeps", "test_a_load_that_waits_for_its_symbol_finds",
    "test_one_that_is_in_use", "test_quarantines_in_a_row", "test_so_do", "test_parameters_arrive",
    "trusted_key_rescues[enforced signatures-6.1]", "trusted_key_rescues[lockdown-6.1]", "has_the_key[enrolled]",
    "test_all_do_as_the_compiled_ones_do", "test_what_it_uses_and_who_uses_it",
    "test_dead_inits_give_their_name_away", "test_rescues_in_a_row", "row_is_as_expected[createoops]",
    "row_is_as_expected[kerneloops]", "row_is_as_expected[provider]", "row_is_as_expected[leak_ref]",
    "row_is_as_expected[none_exit]", "row_is_as_expected[bug_mod2]",
)  # fmt: skip
"""What is left to `--all-kernels` and `--kernels`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever asks for `kernel`, or for something with it, runs on each that was asked for."""
    if "kernel" in metafunc.fixturenames and not _is_parametrized(metafunc):
        kernels = _kernels(metafunc.config)
        if metafunc.definition.get_closest_marker("compiles"):
            kernels = tuple(name for name in kernels if find_series(CPUS.get(name, (name,))[0]).headers)
        metafunc.parametrize("kernel", kernels, indirect=True)


def _is_parametrized(metafunc: pytest.Metafunc) -> bool:
    marks = metafunc.definition.iter_markers("parametrize")
    return any("kernel" in str(mark.args[0]).replace(" ", "").split(",") for mark in marks)


def _kernels(config: pytest.Config) -> tuple[str, ...]:
    chosen = str(config.getoption("--kernels"))
    if chosen:
        return tuple(chosen.split(","))
    if config.getoption("--all-kernels"):
        return (*(series.name for series in SERIES), *CPUS)
    return KERNELS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything here needs a virtual machine; what is not chosen is left out, and counted by pytest."""
    left_out = []
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)
            if not _is_wanted(item, config):
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_wanted(item: pytest.Item, config: pytest.Config) -> bool:
    """By default whatever runs on the main kernel, or on none in particular, and the chosen few of the others."""
    call = getattr(item, "callspec", None)
    kernel = call.params.get("kernel") if call else None
    if config.getoption("--kernels"):
        return kernel in _kernels(config)
    if config.getoption("--all-kernels"):
        return True
    if any(name in item.name for name in RARE):
        return False
    chosen = CHOSEN_ON_ARM64 if kernel == ARM64 else CHOSEN
    return kernel in (None, MAIN) or any(name in item.name for name in chosen)


@pytest.fixture
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The series of the kernel that the test runs on."""
    series, cpu = CPUS.get(str(request.param), (str(request.param), ""))
    if cpu:
        monkeypatch.setenv("LKM_LAB_CPU", cpu)
    return series


@pytest.fixture
def faults(kernel: str) -> str:
    """The directory of the modules that get stuck, made for `kernel`."""
    return os.path.dirname(fault_modules(kernel)[0])


@pytest.fixture
def guest(kernel: str, faults: str) -> Iterator[Guest]:
    """A fresh clone, with the faults in /share."""
    with Guest.clone(kernel, share=faults) as guest:
        yield guest


@pytest.fixture
def column(request: pytest.FixtureRequest) -> str:
    """The kernel's name in the table: the processor counts too."""
    return str(request.node.callspec.params["kernel"])
