# SPDX-License-Identifier: MIT
"""Files that are replaced whole, as a set: all are written beside the old ones, then renamed, modules.dep last.

What was killed halfway leaves temporary files, which tell the next run that the set is not one. `flock` on the
directory keeps two runs apart.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock

__all__ = ["FileError", "Place", "leftovers"]

_PREFIX = b".lkm-depmod."
LAST = b"modules.dep"


class FileError(Exception):
    """A file could not be written: its path, and why. Nothing was replaced unless it says so."""

    def __init__(self, path: bytes, error: OSError) -> None:
        super().__init__(path, error)
        self.path, self.error = path, error


def leftovers(directory: bytes) -> bool:
    """Whether an interrupted run has left something in `directory`: its files may not be of one set."""
    try:
        return any(name.startswith(_PREFIX) for name in os.listdir(directory))
    except OSError:
        return False


class Place:
    """A directory for files, locked: as long as it is open no other run replaces any. OSError if it is not there.

    Files go by names relative to the directory, as in kmod: it stays the same one, also for a preloaded library
    that sends open(2) elsewhere and does not know of rename(2). Without flock(2) there is no lock.
    """

    def __init__(self, directory: bytes) -> None:
        self.directory = directory
        self._file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            flock(self._file, LOCK_EX)
        except OSError:
            pass

    def close(self) -> None:
        """Let the next one in."""
        os.close(self._file)

    def replace(self, contents: dict[bytes, bytes]) -> None:
        """Write the files; what an interrupted run has left is removed.

        Raises `FileError`; the old files are as they were if one could not be written.
        """
        written = []
        try:
            for name, content in contents.items():
                temporary = _PREFIX + name
                written.append((temporary, name))
                with _Naming(self.directory, temporary):
                    self._write(temporary, content)
            written.sort(key=lambda pair: pair[1] == LAST)
            for temporary, name in written:
                with _Naming(self.directory, name):
                    os.rename(temporary, name, src_dir_fd=self._file, dst_dir_fd=self._file)
        except BaseException:
            for temporary, _ in written:
                self._remove(temporary)
            raise
        for left in os.listdir(self.directory):
            if left.startswith(_PREFIX):
                self._remove(left)

    def _write(self, name: bytes, content: bytes) -> None:
        self._remove(
            name
        )  # of an interrupted run; or of somebody who would have this one write elsewhere, or wait
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        file = os.open(name, flags, 0o644, dir_fd=self._file)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
        finally:
            os.close(file)

    def _remove(self, name: bytes) -> None:
        try:
            os.unlink(name, dir_fd=self._file)
        except OSError:
            pass


class _Naming:
    """A context in which an OSError becomes a `FileError` of the file. contextlib would cost 3 ms at start."""

    def __init__(self, directory: bytes, name: bytes) -> None:
        self.path = os.path.join(directory, name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise FileError(self.path, error) from error
