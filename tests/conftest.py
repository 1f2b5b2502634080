# SPDX-License-Identifier: MIT
"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all-kernels`: see tests/vm/conftest.py."""
    parser.addoption("--all-kernels", action="store_true", help="run every test on every kernel")
