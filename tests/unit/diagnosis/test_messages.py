# SPDX-License-Identifier: MIT
"""What the kernel's words mean."""

from __future__ import annotations

import errno

import pytest

from lkm.diagnosis.messages import explain_errno, explain_message, init_result


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("x: Unknown symbol y_answer (err -2)", "y_answer is exported by nobody"),
        ("x: disagrees about version of symbol module_layout", "another kernel build"),
        (
            "x: version magic '5.10 SMP ' should be '6.1 SMP '",
            "built for '5.10 SMP ', this kernel is '6.1 SMP '",
        ),
        ("x: gave up waiting for init of module y.", "still in its init: lkm why y"),
        ("x: unknown parameter 'colour' ignored", "no parameter colour"),
        ("do_init_module: 'x'->init suspiciously returned 7, it should follow 0/-E convention", "returned 7"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000000", "NULL pointer"),
        ("RIP: 0010:my_oops_init+0x1b/0x1000 [createoops]", "my_oops_init+0x1b/0x1000 of module createoops"),
        ("Oops: 0002 [#1] PREEMPT SMP NOPTI", "holds for ever"),
        ("virtio_net virtio0: ready", ""),
    ],
)
def test_a_message_is_explained(text: str, meaning: str) -> None:
    explained = explain_message(text)
    assert meaning in explained
    assert bool(explained) == bool(meaning)


def test_the_result_of_init_is_read_from_the_kernels_warning() -> None:
    assert (
        init_result("do_init_module: 'x'->init suspiciously returned 7, it should follow 0/-E convention")
        == 7
    )
    assert init_result("x: loaded") is None


def test_an_errno_of_a_load_depends_on_whether_init_ran() -> None:
    assert "dependency is not loaded" in explain_errno(errno.ENOENT, init_ran=False)
    assert "init ran and returned -ENOENT" in explain_errno(errno.ENOENT, init_ran=True)
    assert "most likely what its own init returned" in explain_errno(errno.ENODEV, init_ran=None)
    assert "1000" in explain_errno(1000, init_ran=None)
