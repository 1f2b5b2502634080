# SPDX-License-Identifier: MIT
"""Which call a module file goes to, with which bytes and flags. The calls themselves are stood in for."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from elftools.elf.elffile import ELFFile

from lkm.system import insert
from lkm.system.insert import insert_file, kernel_compression
from lkm.system.module_state import read_holders, read_refcnt, read_state
from tests.builders import make_module


class Kernel:
    """What it was asked, and what it answers."""

    def __init__(self, *, finit: int = 0, compression: str = "") -> None:
        self.finit, self.compression = finit, compression
        self.files: list[tuple[bytes, bytes, int]] = []
        self.images: list[tuple[bytes, bytes]] = []

    def finit_module(self, handle: int, params: bytes, flags: int) -> int:
        self.files.append((os.read(handle, 1 << 20), params, flags))
        return self.finit

    def init_module(self, image: bytes, params: bytes) -> int:
        self.images.append((image, params))
        return 0


def install(patch: pytest.MonkeyPatch, kernel: Kernel) -> Kernel:
    patch.setattr(insert, "finit_module_here", kernel.finit_module)
    patch.setattr(insert, "init_module_here", kernel.init_module)
    patch.setattr(insert, "kernel_compression", lambda: kernel.compression)
    return kernel


class Case(NamedTuple):
    force_modversion: bool
    force_vermagic: bool
    flags: int


@pytest.mark.parametrize(
    "case", [Case(False, False, 0), Case(True, False, 1), Case(False, True, 2), Case(True, True, 3)]
)
def test_a_plain_file_goes_to_the_kernel_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    kernel = install(monkeypatch, Kernel(finit=errno.EEXIST))
    path = tmp_path / "a.ko"
    path.write_bytes(make_module())
    done = insert_file(
        str(path), "a=1 b=\udcff", force_modversion=case.force_modversion, force_vermagic=case.force_vermagic
    )
    assert done == (errno.EEXIST, "")
    assert kernel.files == [(make_module(), b"a=1 b=\xff", case.flags)]
    assert not kernel.images


@pytest.mark.parametrize("compression", ["xz", "zstd", ""])
def test_a_compressed_file_goes_as_it_is_if_the_kernel_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    kernel = install(monkeypatch, Kernel(compression=compression))
    path = tmp_path / "a.ko.xz"
    path.write_bytes(lzma.compress(make_module()))
    assert insert_file(str(path), "x") == (0, "")
    if compression == "xz":
        assert kernel.files == [(lzma.compress(make_module()), b"x", 4)]
        assert not kernel.images
    else:
        assert kernel.images == [(make_module(), b"x")]
        assert not kernel.files


def test_an_old_kernel_gets_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = install(monkeypatch, Kernel(finit=errno.ENOSYS))
    path = tmp_path / "a.ko"
    path.write_bytes(make_module())
    assert insert_file(str(path)) == (0, "")
    assert kernel.images == [(make_module(), b"")]


def test_forced_bytes_have_neither_crcs_nor_vermagic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = install(monkeypatch, Kernel())
    image = make_module(versions={"_printk": 1})
    path = tmp_path / "a.ko.gz"
    path.write_bytes(gzip.compress(image))
    assert insert_file(str(path), force_modversion=True, force_vermagic=True) == (0, "")
    ((changed, _),) = kernel.images
    assert len(changed) == len(image)
    assert b"vermagic=" in image
    assert b"vermagic=" not in changed
    (tmp_path / "changed.ko").write_bytes(changed)
    with (tmp_path / "changed.ko").open("rb") as stream:
        elf = ELFFile(stream)
        versions, info = (elf.get_section_by_name(name) for name in ("__versions", ".modinfo"))
        assert versions is not None
        assert info is not None
        assert not versions["sh_flags"] & 2
        records = info.data().split(b"\0")
    assert [record for record in records if record] == [
        b"license=GPL", b"depends=", b"name=demo"
    ]  # fmt: skip


def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = install(monkeypatch, Kernel())
    code, why = insert_file(str(tmp_path / "absent.ko"))
    assert (code, "absent.ko cannot be opened: No such file" in why) == (errno.ENOENT, True)
    path = tmp_path / "torn.ko.xz"
    path.write_bytes(lzma.compress(make_module())[:100])
    code, why = insert_file(str(path))
    assert (code, "ends early" in why) == (errno.EINVAL, True)
    path = tmp_path / "odd.ko.gz"
    path.write_bytes(gzip.compress(b"no module"))
    code, why = insert_file(str(path), force_vermagic=True)
    assert (code, "odd.ko.gz" in why) == (errno.EINVAL, True)
    code, why = insert_file(str(tmp_path))
    assert (code, "cannot be read" in why) == (errno.EISDIR, True)
    assert not kernel.files
    assert not kernel.images


def test_the_state_of_a_module_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "module/a"
    (folder / "holders/b").mkdir(parents=True)
    sys = str(tmp_path)
    assert read_state("a", sys) == "coming"
    (folder / "initstate").write_text("live\n", encoding="utf-8")
    assert (read_state("a", sys), read_state("b", sys)) == ("live", "")
    assert (read_refcnt("a", sys), read_holders("a", sys), read_holders("b", sys)) == (None, ["b"], [])
    (folder / "refcnt").write_text("-1\n", encoding="utf-8")
    assert read_refcnt("a", sys) == -1
    (folder / "refcnt").write_text("odd\n", encoding="utf-8")
    assert read_refcnt("a", sys) is None
    assert kernel_compression(sys) == ""
    (tmp_path / "module/compression").write_text("zstd\n", encoding="utf-8")
    assert kernel_compression(sys) == "zstd"
