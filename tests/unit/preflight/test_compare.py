# SPDX-License-Identifier: MIT
"""Two kernels' exports, compared, and `lkm symvers diff` on files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.preflight.compare import ChangeKind, compare_exports, hits
from lkm.preflight.kernel import KernelExport
from tests.unit.preflight.world import module


def table(*rows: KernelExport) -> dict[str, KernelExport]:
    return {row.name: row for row in rows}


BEFORE = table(
    KernelExport("same", False, 1), KernelExport("gone", False, 2), KernelExport("other_crc", True, 3),
    KernelExport("closed", False, 4), KernelExport("moved", True, 5),
)  # fmt: skip
AFTER = table(
    KernelExport("same", False, 1), KernelExport("new", False, 2), KernelExport("other_crc", True, 33),
    KernelExport("closed", True, 4), KernelExport("moved", True, 5, "SPACE"),
)  # fmt: skip


def test_each_kind_of_change_is_told() -> None:
    changes = {change.name: change.kinds for change in compare_exports(BEFORE, AFTER)}
    assert changes == {
        "gone": (ChangeKind.REMOVED,), "new": (ChangeKind.ADDED,), "other_crc": (ChangeKind.CRC,),
        "closed": (ChangeKind.LICENCE,), "moved": (ChangeKind.NAMESPACE,),
    }  # fmt: skip


def test_crcs_count_where_both_have_them() -> None:
    assert compare_exports(table(KernelExport("a", False, 1)), table(KernelExport("a", False, None))) == ()


@pytest.mark.parametrize(("imports", "namespaces", "proprietary", "expected"), [
    (["same", "closed", "moved"], ["SPACE"], False, []),
    (["gone", "other_crc"], [], False, ["gone", "other_crc"]),
    (["closed"], [], True, ["closed"]),
    (["moved"], [], False, ["moved"]),
])  # fmt: skip
def test_a_module_is_hit_by_what_it_uses(
    imports: list[str], namespaces: list[str], expected: list[str], *, proprietary: bool
) -> None:
    changes = {change.name: change for change in compare_exports(BEFORE, AFTER)}
    hit = hits("x", imports, namespaces, changes, proprietary=proprietary)
    assert [change.name for change in hit.changes] == expected


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for number, crc in enumerate((0x22222222, 0x99999999)):
        path = tmp_path / f"{number}.symvers"
        path.write_text(
            f"{crc:#010x}\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n0x00000001\told\tlib/x\tEXPORT_SYMBOL\t\n"
        )
        paths.append(str(path))
    assert run(["symvers", "diff", paths[0], paths[0]]) == 0
    capsys.readouterr()
    assert run(["symvers", "diff", *paths]) == 1
    assert "CRC        printk (0x22222222 → 0x99999999)" in capsys.readouterr().out
    (tmp_path / "m.ko").write_bytes(module())
    assert run(["symvers", "diff", *paths, str(tmp_path / "m.ko"), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["modules"] == [{"module": str(tmp_path / "m.ko"), "symbols": ["printk"]}]
    assert run(["symvers", "diff", paths[0], "9.9.9-none"]) == 2
