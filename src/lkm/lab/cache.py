# SPDX-License-Identifier: MIT
"""The lab's cache: where it lies, locks between processes, atomic publication, checksums.

Everything in it can be deleted at any time (while no guest runs): it is fetched or built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from lkm.errors import LabError

__all__ = [
    "Manifest",
    "Progress",
    "cache_dir",
    "check",
    "content_key",
    "intact",
    "locked",
    "prune",
    "publish",
    "read_manifest",
    "sha256_file",
    "silent",
    "use",
    "write_manifest",
]

Progress = Callable[[str], None]
"""Is told, in one short line, what takes time."""

MANIFEST = "manifest.json"
UNUSED = 3600.0
"""Seconds after which what can be made again in seconds may go."""


def silent(_line: str) -> None:
    """The `Progress` that says nothing."""


def cache_dir(*parts: str) -> str:
    """A directory of the cache, created: `$LKM_LAB_CACHE`, `$XDG_CACHE_HOME/lkm` or `~/.cache/lkm`.

    Raises LabError if it cannot be made.
    """
    environ = os.environ
    top = environ.get("LKM_LAB_CACHE") or ""
    if not top:
        home = environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        top = os.path.join(home, "lkm")
    path = os.path.join(os.path.abspath(top), *parts)
    with _cache_errors(path):
        os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def _cache_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(
            f"the lab's cache cannot be written: {path}: {error.strerror}",
            remedy="name another directory with LKM_LAB_CACHE",
        ) from error


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache-wide lock called `name`; other processes wait. The kernel drops it if we die."""
    path = os.path.join(cache_dir("locks"), name.replace("/", "_"))
    with _cache_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Not by closing alone: a child that was forked meanwhile has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextlib.contextmanager
def publish(destination: str) -> Iterator[str]:
    """A scratch directory that becomes `destination` in one rename if the block ends well.

    What was at `destination` is replaced: call it under a lock.
    """
    parent = os.path.dirname(destination)
    os.makedirs(parent, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=".new-", dir=parent)
    try:
        yield scratch
        if os.path.lexists(destination):
            old = tempfile.mkdtemp(prefix=".old-", dir=parent)
            os.rename(destination, os.path.join(old, "x"))
            os.rename(scratch, destination)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(scratch, destination)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def use(path: str) -> str:
    """Mark an entry of the cache as used now, so that `prune` leaves it; returns `path`."""
    os.utime(path)
    return path


def prune(directory: str) -> None:
    """Delete the entries of a directory that nobody has used for UNUSED seconds; newer ones may be in use."""
    for entry in os.scandir(directory):
        with contextlib.suppress(OSError):  # another process prunes too
            if time.time() - entry.stat().st_mtime > UNUSED:
                if entry.is_dir():
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def sha256_file(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def content_key(*parts: object) -> str:
    """A short key for whatever the parts say."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Manifest:
    """What a published directory holds: checksums of its files, and facts about them."""

    facts: Mapping[str, str]
    files: Mapping[str, tuple[int, int, str]]
    """Name → size in bytes, mtime in ns, SHA-256 (empty: the mtime alone decides)."""

    def damage(self, directory: str) -> str:
        """What is wrong with the files in `directory`; empty if they are as they were published.

        A file whose mtime is as recorded is not read again; otherwise its checksum decides.
        """
        for name, (size, mtime, digest) in self.files.items():
            path = os.path.join(directory, name)
            try:
                status = os.stat(path)
            except OSError:
                return f"{name} is missing"
            if status.st_size != size:
                return f"{name} has {status.st_size} bytes instead of {size}"
            if status.st_mtime_ns != mtime and (not digest or sha256_file(path) != digest):
                return f"{name} has another checksum"
        return ""


def write_manifest(
    directory: str,
    facts: Mapping[str, str],
    *,
    names: Sequence[str] | None = None,
    unhashed: Sequence[str] = (),
) -> None:
    """Record the files of `directory` (or those in `names`).

    Those in `unhashed`, huge and quickly rebuilt, are known by size and mtime only.
    """
    files = {}
    for name in sorted(os.listdir(directory)) if names is None else names:
        path = os.path.join(directory, name)
        status = os.stat(path)
        digest = "" if name in unhashed else sha256_file(path)
        files[name] = (status.st_size, status.st_mtime_ns, digest)
    with open(os.path.join(directory, MANIFEST), "w", encoding="utf-8") as stream:
        json.dump({"facts": dict(facts), "files": files}, stream, indent=1)


def read_manifest(directory: str) -> Manifest | None:
    """The manifest of a published directory; None if there is none that can be read."""
    try:
        with open(os.path.join(directory, MANIFEST), encoding="utf-8") as stream:
            raw: Any = json.load(stream)
        files = {
            name: (int(size), int(mtime), str(digest)) for name, (size, mtime, digest) in raw["files"].items()
        }
        return Manifest(facts=dict(raw["facts"]), files=files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def check(directory: str) -> tuple[Manifest | None, str]:
    """The manifest of a published directory that is whole; else what is wrong with it (empty: it is not there)."""
    if not os.path.isdir(directory):
        return None, ""
    manifest = read_manifest(directory)
    damage = manifest.damage(directory) if manifest is not None else "its manifest cannot be read"
    return (None if damage else manifest), damage


def intact(directory: str) -> bool:
    """Whether a published directory is there and as it was published."""
    return check(directory)[0] is not None
