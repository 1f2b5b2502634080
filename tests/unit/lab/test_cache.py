# SPDX-License-Identifier: MIT
"""The cache: published whole or not at all, and known to be damaged when it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm.lab import cache


@pytest.fixture
def published(tmp_path: Path) -> Path:
    home = tmp_path / "image"
    with cache.publish(str(home)) as scratch:
        (Path(scratch) / "vmlinuz").write_bytes(b"kernel" * 100)
        (Path(scratch) / "ram").write_bytes(b"memory")
        cache.write_manifest(scratch, {"version": "1"}, unhashed=("ram",))
    return home


def _damage(home: Path) -> str:
    manifest, damage = cache.check(str(home))
    assert (manifest is None) == bool(damage)
    return damage


def test_an_intact_directory_has_no_damage(published: Path) -> None:
    assert _damage(published) == ""


def test_a_file_that_was_cut_short(published: Path) -> None:
    os.truncate(published / "vmlinuz", 7)
    assert _damage(published) == "vmlinuz has 7 bytes instead of 600"


def test_a_file_that_was_overwritten(published: Path) -> None:
    (published / "vmlinuz").write_bytes(b"KERNEL" * 100)
    os.utime(published / "vmlinuz", ns=(0, 0))
    assert _damage(published) == "vmlinuz has another checksum"


def test_a_file_that_was_only_touched_is_intact(published: Path) -> None:
    os.utime(published / "vmlinuz", ns=(0, 0))
    assert _damage(published) == ""


def test_an_unhashed_file_that_was_touched_is_damaged(published: Path) -> None:
    os.utime(published / "ram", ns=(0, 0))
    assert _damage(published) != ""


def test_a_missing_file(published: Path) -> None:
    (published / "ram").unlink()
    assert _damage(published) == "ram is missing"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"facts": {}, "files": {"x": 1}}', '{"facts": 3}'])
def test_a_manifest_that_cannot_be_read(published: Path, text: str) -> None:
    (published / "manifest.json").write_text(text)
    assert _damage(published) == "its manifest cannot be read"
    assert not cache.intact(str(published))


def test_what_is_not_there_is_not_damaged(tmp_path: Path) -> None:
    assert cache.check(str(tmp_path / "image")) == (None, "")
    assert not cache.intact(str(tmp_path / "image"))


def test_a_failed_publication_leaves_nothing_and_keeps_what_was_there(published: Path) -> None:
    def fail() -> None:
        with cache.publish(str(published)) as scratch:
            (Path(scratch) / "half").write_bytes(b"")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _damage(published) == ""
    assert [entry.name for entry in published.parent.iterdir()] == ["image"]


def test_publication_replaces(published: Path) -> None:
    with cache.publish(str(published)) as scratch:
        cache.write_manifest(scratch, {"version": "2"})
    assert os.listdir(published) == ["manifest.json"]
    assert [entry.name for entry in published.parent.iterdir()] == ["image"]


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("LKM_LAB_CACHE", raising=False)
    assert cache.cache_dir("kernels") == str(tmp_path / "xdg/lkm/kernels")
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "own"))
    assert cache.cache_dir() == str(tmp_path / "own")


def test_a_lock_excludes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path))
    log = tmp_path / "log"
    with cache.locked("x"):
        child = os.fork()
        if child == 0:
            with cache.locked("x"):
                log.write_text(log.read_text() + "child")
            os._exit(0)
        log.write_text("parent ")
    os.waitpid(child, 0)
    assert log.read_text() == "parent child"
