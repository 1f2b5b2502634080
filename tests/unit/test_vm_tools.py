# SPDX-License-Identifier: MIT
"""What the tests on real kernels judge by: signatures of oopses, and the table of what passed."""

from __future__ import annotations

import pytest

from tests.vm.oopses import oops_signatures, stray_oopses
from tests.vm.table import parse_table, render_table

X86 = """\
[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    1.0] Oops: 0002 [#1] PREEMPT SMP NOPTI
[    1.0] RIP: 0010:bug_mod1_init+0x5/0x1000 [bug_mod1]
[    1.0] RIP: 0033:0x7f0000000000
[    2.0] WARNING: CPU: 0 PID: 9 at kernel/module/main.c:1 module_put+0x1/0x2
[    2.0] RIP: 0010:module_put+0x1/0x2
[    3.0] kernel BUG at kernel/module/main.c:9!
[    3.0] invalid opcode: 0000 [#2] PREEMPT SMP NOPTI
[    3.0] RIP: 0010:try_release_module_ref+0x1/0x2
""".splitlines()
ARM64 = """\
[    1.0] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000
[    1.0] Internal error: Oops: 0000000096000044 [#1] SMP
[    1.0] pc : exit_oops_exit+0x10/0x1000 [exit_oops]
[    1.0] lr : do_one_initcall+0x1/0x2
""".splitlines()
WILD = ["BUG: unable to handle page fault for address: ffffffffc0000000", "RIP: 0010:0xffffffffc0000000"]


def test_each_oops_counts_once_by_where_it_died() -> None:
    assert oops_signatures(X86) == {"bug_mod1_init [bug_mod1]": 1, "try_release_module_ref [kernel]": 1}
    assert oops_signatures(ARM64) == {"exit_oops_exit [exit_oops]": 1}
    assert oops_signatures(X86[:3] + ARM64 + X86[:3])["bug_mod1_init [bug_mod1]"] == 2


@pytest.mark.parametrize("lines", [WILD, ["Kernel panic - not syncing: Fatal exception"]])
def test_an_oops_without_a_place_is_the_kernels(lines: list[str]) -> None:
    assert oops_signatures(lines) == {"? [kernel]": 1}


def test_what_no_fault_made_is_stray() -> None:
    assert stray_oopses(X86 + ARM64, ["bug_mod1", "exit_oops"]) == ["try_release_module_ref [kernel]"]
    assert stray_oopses(ARM64, ["bug_mod1"]) == ["exit_oops_exit [exit_oops]"]


def test_the_table_has_a_row_a_situation_and_a_column_a_kernel() -> None:
    cells = {("a", "6.12"): True, ("b", "6.12"): False, ("a", "5.10"): True, ("a", "6.1-arm64"): None}
    lines = render_table(cells, {"a": "safe: rescued", "b": "refuse: refused"}).splitlines()
    assert lines[0] == "| situation | verdict: outcome | 5.10 | 6.12 | 6.1-arm64 |"
    assert lines[2] == "| a | safe: rescued | ✓ | ✓ | – |"
    assert lines[3] == "| b | refuse: refused |  | **✗** |  |"
    assert lines[-1] == "2 of 4 passed."
    assert parse_table("\n".join(lines)) == (cells, {"a": "safe: rescued", "b": "refuse: refused"})
