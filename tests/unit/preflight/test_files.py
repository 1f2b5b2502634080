# SPDX-License-Identifier: MIT
"""What comes of a file before the kernel looks at a module: as seen of 5.10, 6.1, 6.12 and 7.3, and of kmod 30."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
from pathlib import Path

import pytest

from lkm.preflight.kernel import Machine, Request
from lkm.preflight.many import check_file, check_files
from lkm.preflight.values import Cause, Prediction
from tests.unit.preflight.world import module, target


def judged(path: Path, release: str = "6.1.0-1-amd64") -> Prediction:
    return check_file(str(path), target(release), Request())


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_an_empty_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    found = judged(written(tmp_path / "empty.ko", b""))
    assert (found.errno, found.lines) == (errno.EINVAL, ())
    assert found.problems[0].cause is Cause.FILE


def test_who_may_not_load_hears_of_that_first(tmp_path: Path) -> None:
    """may_init_module comes before the file is read."""
    path = written(tmp_path / "empty.ko", b"")
    user = target(policy=Machine(False, False, "none", False, ()))
    assert check_file(str(path), user, Request()).errno == errno.EPERM


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_invalid(tmp_path: Path, make: object) -> None:
    path = tmp_path / "other.ko"
    assert callable(make)
    make(path)
    found = judged(path)
    assert (found.errno, found.problems[0].cause) == (errno.EINVAL, Cause.FILE)
    assert "insmod itself says" in found.problems[0].words


def test_what_cannot_be_opened_ends_there(tmp_path: Path) -> None:
    assert judged(tmp_path / "gone.ko").errno == errno.ENOENT
    (tmp_path / "ring.ko").symlink_to("ring.ko")
    assert judged(tmp_path / "ring.ko").errno == errno.ELOOP


def test_a_file_of_others_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "secret.ko", module())

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    found = judged(path)
    assert found.errno == errno.EACCES
    assert "Permission denied" in found.problems[0].words


@pytest.mark.parametrize("size", [1, 5, 6, 16, 52, 63])
def test_a_short_file_has_no_header(tmp_path: Path, size: int) -> None:
    found = judged(written(tmp_path / "short.ko", module()[:size]))
    assert (found.errno, found.lines) == (errno.ENOEXEC, (f"Invalid ELF header len {size}",))
    assert ("Invalid parameters" in found.problems[-1].words) is (size < 6)
    assert judged(tmp_path / "short.ko", "5.10.0-1-amd64").lines == ("Module has invalid ELF structures",)


@pytest.mark.parametrize(
    "cut", [lambda d: d[:6], lambda d: d[: len(d) // 2], lambda d: d[:-1], lambda d: d + b"junk"]
)
@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_what_cannot_be_unpacked_does_not_come_to_the_kernel(
    tmp_path: Path, pack: object, cut: object
) -> None:
    assert callable(pack)
    assert callable(cut)
    found = judged(written(tmp_path / "cut.ko.xz", cut(pack(module()))))
    assert (found.errno, found.lines, found.problems[0].cause) == (errno.EINVAL, (), Cause.FILE)


@pytest.mark.parametrize("size", [0, 30, 63])
def test_a_short_one_that_was_unpacked_is_refused_without_a_word(tmp_path: Path, size: int) -> None:
    """init_module looks at the length before anything is copied."""
    found = judged(written(tmp_path / "short.ko.xz", lzma.compress(module()[:size])))
    assert (found.errno, found.lines) == (errno.ENOEXEC, ())


def test_one_bad_file_does_not_end_the_others(tmp_path: Path) -> None:
    good = written(tmp_path / "sound.ko", module())
    bad = written(tmp_path / "cut.ko.xz", lzma.compress(module())[:40])
    paths = [str(good), str(bad), str(tmp_path / "gone.ko"), str(good)]
    found = check_files(paths, target(), Request())
    assert [each.loads for each in found] == [True, False, False, True]
