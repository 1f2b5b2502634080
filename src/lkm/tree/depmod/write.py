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
    """Write the files. Raises `FileError`, and leaves the old ones as they were if one could not be written.

    All by names relative to the directory, as kmod does: it stays the same one, also for a preloaded library that
    sends open(2) elsewhere and does not know of rename(2).
    """
    written = []
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(directory, error) from error
    try:
        for name, content in contents.items():
            temporary = _PREFIX + name
            written.append((temporary, name))
            with _Naming(directory, temporary):
                _write(temporary, content, place)
        written.sort(key=lambda pair: pair[1] == LAST)
        for temporary, name in written:
            with _Naming(directory, name):
                os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        for temporary, _ in written:
            _remove(temporary, place)
        raise
    finally:
        os.close(place)


class _Naming:
    """A context in which an OSError becomes a `FileError` of the file. contextlib would cost 3 ms at start."""

    def __init__(self, directory: bytes, name: bytes) -> None:
        self.path = os.path.join(directory, name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise FileError(self.path, error) from error


def _remove(name: bytes, place: int) -> None:
    try:
        os.unlink(name, dir_fd=place)
    except OSError:
        pass


def _write(name: bytes, content: bytes, place: int) -> None:
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(name, flags, 0o644, dir_fd=place)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)
