# SPDX-License-Identifier: MIT
"""Tests on real kernels. Each test that asks for `guest` has a clone of its own, with the faults in /share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lkm.lab.build import build_modules
from lkm.lab.vm import Guest

KERNELS = ("5.10", "6.1")
HERE = Path(__file__).parent
FAULTS = Path(__file__).parents[2] / "src" / "lkm" / "lab" / "faults"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a virtual machine."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """Each of the two kernels that everything is tested on."""
    return str(request.param)


@pytest.fixture
def faults(kernel: str) -> str:
    """The directory of the modules that get stuck, built for `kernel`."""
    return os.path.dirname(build_modules(str(FAULTS), kernel)[0])


@pytest.fixture
def guest(kernel: str, faults: str) -> Iterator[Guest]:
    """A fresh clone, with the faults in /share."""
    with Guest.clone(kernel, share=faults) as guest:
        yield guest
