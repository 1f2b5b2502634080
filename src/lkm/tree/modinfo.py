# SPDX-License-Identifier: MIT
"""What a module says of itself, read from its file or, of a built-in one, from modules.builtin.modinfo.

Made for thousands of files: of one that is not compressed, four short pieces are read. Everything is bytes, as the
file has it.
"""

from __future__ import annotations

import errno
import os

from lkm.errors import LkmError
from lkm.formats.elf_sections import SectionError, find_section
from lkm.formats.signer import parse_signer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lkm.formats.compression import Decompressor
    from lkm.formats.elf_sections import Read
    from lkm.formats.signer import Signer

__all__ = ["ModinfoError", "ModinfoReader", "read_builtin_modinfo"]

_SHORTEST = 6  # bytes that tell what a file is
_MAGIC = (b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


class ModinfoError(LkmError):
    """A file that cannot be read as a module. `errno` is what kmod would say, the message says why."""

    def __init__(self, message: str, number: int, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.errno = number


class ModinfoReader:
    """Reads one module file after the other, and remembers what the signatures of a build have in common."""

    def __init__(self) -> None:
        self._known: dict[bytes, Signer] = {}
        self._decompressor: Decompressor | None = None

    def read(self, path: str) -> tuple[list[bytes], Signer | None]:
        """The entries of `.modinfo`, as `key=value`, and who signed the file. ModinfoError if it is no module."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self._read(handle, os.fstat(handle).st_size, path)
            finally:
                os.close(handle)
        except OSError as error:
            raise ModinfoError(f"{path}: {error.strerror}", error.errno or errno.EIO) from error

    def _read(self, handle: int, size: int, path: str) -> tuple[list[bytes], Signer | None]:
        def read(offset: int, length: int) -> bytes:
            return os.pread(handle, length, offset)

        if size < _SHORTEST:
            raise ModinfoError(f"{path}: it has {size} bytes", errno.EINVAL)
        if not read(0, _SHORTEST).startswith(_MAGIC):
            return self._parse(read, size, path)
        data = self._decompress(os.pread(handle, size, 0), path)
        return self._parse(lambda offset, length: bytes(data[offset : offset + length]), len(data), path)

    def _decompress(self, data: bytes, path: str) -> bytes | memoryview:
        from lkm.formats.compression import CompressionError, Decompressor

        if self._decompressor is None:
            self._decompressor = Decompressor()
        try:
            return self._decompressor(data, name=path)
        except CompressionError as error:
            raise ModinfoError(error.message, errno.EINVAL, remedy=error.remedy) from error

    def _parse(self, read: Read, size: int, path: str) -> tuple[list[bytes], Signer | None]:
        try:
            place = find_section(read, size, b".modinfo", path)
        except SectionError as error:
            raise ModinfoError(error.message, error.errno, remedy=error.remedy) from error
        if place is None:
            raise ModinfoError(f"{path}: it has no section .modinfo", errno.ENODATA)
        entries = [entry for entry in read(*place).split(b"\0") if entry]
        return entries, parse_signer(read, size, self._known)


def read_builtin_modinfo(directory: str, name: str, *, every: bool = False) -> list[bytes]:
    """The entries of the built-in module `name`. ModinfoError if modules.builtin.modinfo cannot be read.

    They are one after the other there, each as `NAME.key=value`; from 6.18 on a module's aliases stand elsewhere in
    the file again. Those come with `every`; kmod shows the first ones alone.
    """
    path = f"{directory}/modules.builtin.modinfo"
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
    except OSError as error:
        raise ModinfoError(f"{path}: {error.strerror}", error.errno or errno.EIO) from error
    prefix = os.fsencode(name) + b"."
    found: list[bytes] = []
    for entry in data.split(b"\0"):
        if entry.startswith(prefix):
            found.append(entry[len(prefix) :])
        elif found and not every:
            break
    return found
