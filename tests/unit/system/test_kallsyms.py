# SPDX-License-Identifier: MIT
"""/proc/kallsyms of a machine: what is hidden or missing is an error with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.errors import LkmError, NeedsRoot
from lkm.system.kallsyms import SymbolsHidden, read_kallsyms
from tests.unit.system.trees import Tree


def test_hidden_addresses_are_an_error_with_its_remedy(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/proc/kallsyms", "0000000000000000 T _text\n0000000000000000 t f\t[demo]\n")
    tree.write("/proc/sys/kernel/kptr_restrict", "2\n")
    with pytest.raises(SymbolsHidden, match=r"sysctl kernel\.kptr_restrict=1"):
        read_kallsyms(tree.root)
    tree.write("/proc/sys/kernel/kptr_restrict", "1\n")
    with pytest.raises(NeedsRoot, match="CAP_SYSLOG"):
        read_kallsyms(tree.root)


def test_the_file_is_read(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/proc/kallsyms", "ffffffff82000000 D modules\n")
    symbols = read_kallsyms(tree.root)
    assert (symbols.address("modules"), symbols.address("idem_hash")) == (0xFFFFFFFF82000000, 0)


def test_without_the_file_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LkmError, match="CONFIG_KALLSYMS"):
        read_kallsyms(Tree(str(tmp_path)).root)
