# SPDX-License-Identifier: MIT
"""The three system calls, on whatever kernel runs the tests: none of them can succeed here."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from lkm.errors import KernelCallError
from lkm.system import calls

NO_MODULES = not os.path.exists("/proc/modules")
ROOT = os.geteuid() == 0


def test_numbers_of_both_machines() -> None:
    assert calls.syscall_numbers("x86_64") == {"init_module": 175, "finit_module": 313, "delete_module": 176}
    assert calls.syscall_numbers("aarch64") == {"init_module": 105, "finit_module": 273, "delete_module": 106}


def test_other_machines_are_named() -> None:
    with pytest.raises(KernelCallError, match="riscv64"):
        calls.syscall_numbers("riscv64")


@pytest.mark.parametrize(
    ("call", "with_modules"),
    [
        (lambda: calls.init_module(b"no module", seconds=10), errno.ENOEXEC),
        (lambda: calls.finit_module("/dev/null", seconds=10), errno.EINVAL),
        (lambda: calls.delete_module("no_such_module_here", seconds=10), errno.ENOENT),
    ],
)
def test_failure_is_an_errno_or_says_that_there_are_no_modules(
    call: Callable[[], calls.CallResult], with_modules: int
) -> None:
    if NO_MODULES:
        with pytest.raises(KernelCallError, match="CONFIG_MODULES is off") as caught:
            call()
        assert caught.value.errno == errno.ENOSYS
    else:
        result = call()
        assert not result.ok
        assert result.errno == (with_modules if ROOT else errno.EPERM)
        assert (result.signal, result.timed_out) == (None, False)


def test_file_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        calls.finit_module("/nonexistent/file.ko", seconds=10)


def test_result_is_ok_only_when_the_call_returned() -> None:
    assert calls.CallResult().ok
    assert not calls.CallResult(errno=4095).ok
    assert not calls.CallResult(signal=9).ok
    assert not calls.CallResult(timed_out=True).ok
