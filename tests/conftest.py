# SPDX-License-Identifier: MIT
"""What all tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.vm.table import TableWriter


def pytest_addoption(parser: pytest.Parser) -> None:
    """See tests/vm/conftest.py and tests/vm/table.py."""
    parser.addoption("--all-kernels", action="store_true", help="run every test on every kernel")
    parser.addoption("--kernels", default="", metavar="A,B", help="run every test on these kernels")
    parser.addoption("--table", default="", metavar="FILE", help="write what passed on which kernel")


def pytest_configure(config: pytest.Config) -> None:
    """How long an example takes is the machine's matter, and the same examples come each time: new ones are drawn
    by `make explore`. The table is written by the process that gathers reports."""
    explore = int(os.environ.get("LKM_EXAMPLES") or 0)
    settings.register_profile(
        "any-machine",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=not explore,
        max_examples=explore or 100,
    )
    settings.load_profile("any-machine")
    if config.getoption("--table") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(TableWriter(config.getoption("--table")))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes are named by their argument: what is in them (a gzip file's time) may differ between two collections, and
    workers that collect other names run nothing."""
    return argname if isinstance(val, bytes) else None
