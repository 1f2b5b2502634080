# SPDX-License-Identifier: MIT
"""A file of a few byte strings with checksums, read one by one: the form of the cache.

Magic, sizes and CRC-32s, a CRC-32 of all that, the strings one after the other. It is read only if it belongs to
this user or to root, and nobody else may write to it.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32
from collections.abc import Sequence
from struct import Struct

__all__ = ["Sections", "is_ours", "time_of_ours", "write_sections"]

_MAGIC = b"lkm-depmod-1\0\0\0\n"
_ANY_MAGIC = b"lkm-depmod-"
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO would be waited for
_MAX = 1 << 31


class Sections:
    """The strings of a file; `read` gives None for one that is damaged, as if the file were not there.

    `mark` is of this content alone, empty without a file.
    """

    def __init__(self, path: bytes, count: int) -> None:
        self._file, self._rows = -1, []
        self.mark = b""
        try:
            file = os.open(path, _OPEN)
        except OSError:
            return
        head = _head(count)
        status = os.fstat(file)
        data = os.pread(file, head.size, 0) if _is_ours_alone(status) else b""
        if len(data) == head.size and data[:16] == _MAGIC and crc32(data[:-4]) == head.unpack(data)[-1]:
            numbers, at = head.unpack(data)[1:-1], head.size
            for size, checksum in zip(numbers[::2], numbers[1::2]):
                self._rows.append((at, size, checksum))
                at += size
            if at == status.st_size:
                self._file, self.mark = file, data[16:]
                return
        os.close(file)

    @property
    def found(self) -> bool:
        """Whether there is such a file."""
        return self._file >= 0

    def read(self, number: int) -> bytes | None:
        """One of the strings."""
        if self._file < 0:
            return None
        at, size, checksum = self._rows[number]
        data = os.pread(self._file, size, at)
        return data if len(data) == size and crc32(data) == checksum else None

    def close(self) -> None:
        """Nothing is read after this."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def time_of_ours(name: bytes, directory: int) -> int | None:
    """When a file in a directory (a descriptor) was changed, ns; None if it is no such file of this user or root."""
    try:
        file = os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        ours = _is_ours_alone(status) and os.pread(file, len(_ANY_MAGIC), 0) == _ANY_MAGIC
        return status.st_mtime_ns if ours else None
    finally:
        os.close(file)


def write_sections(name: bytes, directory: int, contents: Sequence[bytes]) -> None:
    """Replace a file in a directory (a descriptor) whole. OSError if it cannot be done: the old one is as it was."""
    head = _head(len(contents))
    numbers = [number for content in contents for number in (len(content), crc32(content))]
    begin = head.pack(_MAGIC, *numbers, 0)[:-4]
    data = b"".join([head.pack(_MAGIC, *numbers, crc32(begin)), *contents])
    temporary = b"%s.%s" % (
        name,
        os.urandom(8).hex().encode(),
    )  # a pid comes again, and finds what was killed
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    file = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(file)


def _head(count: int) -> Struct:
    return Struct("=16s" + "QI" * count + "I")


def is_ours(status: os.stat_result) -> bool:
    """Whether it belongs to this user or to root, and nobody else may write to it."""
    return not status.st_mode & 0o022 and status.st_uid in (0, os.geteuid())


def _is_ours_alone(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and is_ours(status) and status.st_size < _MAX
