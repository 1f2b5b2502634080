# SPDX-License-Identifier: MIT
"""Memory that nobody can have: insmod gets ENOMEM on 5.10, 6.1, 6.12 and 7.3."""

from __future__ import annotations

import errno

import pytest

from lkm.formats.elf import SHF_ALLOC, SHF_WRITE, SHT_NOBITS
from lkm.formats.elfwriter import NewSection
from lkm.preflight.check import check_module
from lkm.preflight.values import Cause, Prediction
from tests.mutants.editor import Editor
from tests.unit.preflight.world import module, target

RELEASES = ("5.10.0-1-amd64", "6.1.0-1-amd64", "6.12.1-amd64", "7.3.1-amd64")


def with_bss(release: str, *, size: int = 64, align: int = 8) -> Prediction:
    bss = NewSection(".bss", b"", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, 8, size=64)
    editor = Editor(module(release=release, extra=(bss,)))
    editor.set_section(editor.index(".bss"), size=size, align=align)
    return check_module(editor.result(), target(release))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("size", "align"), [(1 << 31, 8), (0xF0000000, 8), (64, 1 << 31)])
def test_more_than_all_modules_have_is_refused(release: str, size: int, align: int) -> None:
    found = with_bss(release, size=size, align=align)
    assert found.errno == errno.ENOMEM
    assert [problem.cause for problem in found.problems if problem.errno] == [Cause.MEMORY]
    assert found.lines == (
        ("execmem: unable to allocate memory",) if release[0] == "7" or "6.12" in release else ()
    )


@pytest.mark.parametrize("release", RELEASES)
def test_what_may_be_there_is_unknown_and_the_usual_is_not(release: str) -> None:
    assert with_bss(release, size=1 << 20).loads
    assert with_bss(release, align=0).loads
    assert "512 MiB" in str(with_bss(release, size=1 << 29).unknown)


@pytest.mark.parametrize(("size", "align"), [(1 << 33, 8), (64, 1 << 32)])
def test_what_does_not_fit_in_the_kernels_own_numbers_cannot_be_told(size: int, align: int) -> None:
    assert with_bss(RELEASES[1], size=size, align=align).loads is None
