# SPDX-License-Identifier: MIT
"""lsmod prints what kmod's lsmod prints."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.property.tree.compare import a_machine, check_same, examples

NAMES = st.text("abcdefghij_0123456789", min_size=1, max_size=22)
ROWS = st.tuples(
    NAMES,
    st.sampled_from([0, 16384, 2367488, 1 << 33]),
    st.sampled_from([-1, 0, 1, 17]),
    st.lists(NAMES, max_size=3, unique=True),
    st.sampled_from(["Live", "Loading", "Unloading"]),
    st.sampled_from(["", " (OE)", " (P+)"]),
)


@examples(40)
@given(rows=st.lists(ROWS, max_size=4, unique_by=lambda row: row[0]))
def test_what_is_loaded_is_listed_alike(rows: list[tuple[str, int, int, list[str], str, str]]) -> None:
    with a_machine() as machine:
        text = ""
        for name, size, refcnt, holders, state, taints in rows:
            machine.write(f"/sys/module/{name}/coresize", f"{size}\n")
            machine.load(name, refcnt=refcnt, holders=tuple(holders))
            used = "".join(f"{holder}," for holder in holders) or "-"
            text += f"{name} {size} {refcnt} {used} {state} 0x0000000000000000{taints}\n"
        machine.write("/proc/modules", text)
        check_same(machine, "lsmod")
        for wrong in ("-x", "much"):  # kmod 30 and 34 word it differently
            assert machine.lkm("lsmod", wrong).code == machine.kmod("lsmod", wrong).code == 1
