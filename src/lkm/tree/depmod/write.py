# SPDX-License-Identifier: MIT
"""Files that are replaced whole, as a set: all are written beside the old ones, then renamed, modules.dep last.

What was killed halfway leaves temporary files, which tell the next run that the set is not one. `flock` on the
directory keeps two runs apart.
"""

from __future__ import annotations

import os

__all__ = ["FileError", "leftovers", "replace_files"]

_PREFIX = b".lkm-depmod."
LAST = b"modules.dep"


class FileError(Exception):
    """A file could not be written: its path, and why. Nothing was replaced unless it says so."""

    def __init__(self, path: bytes, error: OSError) -> None:
        super().__init__(path, error)
        self.path, self.error = path, error


def leftovers(directory: bytes) -> list[bytes]:
    """Names of what an interrupted run left in `directory`."""
    try:
        return [name for name in os.listdir(directory) if name.startswith(_PREFIX)]
    except OSError:
        return []


def replace_files(directory: bytes, contents: dict[bytes, bytes]) -> None:
    """Write the files. Raises `FileError`, and leaves the old ones as they were if one could not be written."""
    written = []
    try:
        for name, content in contents.items():
            temporary = os.path.join(directory, _PREFIX + name)
            written.append((temporary, name))
            _write(temporary, content)
        written.sort(key=lambda pair: pair[1] == LAST)
        for temporary, name in written:
            path = os.path.join(directory, name)
            try:
                os.rename(temporary, path)
            except OSError as error:
                raise FileError(path, error) from error
    except BaseException:
        for temporary, _ in written:
            _remove(temporary)
        raise


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _write(path: bytes, content: bytes) -> None:
    try:
        file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
        finally:
            os.close(file)
    except OSError as error:
        raise FileError(path, error) from error
