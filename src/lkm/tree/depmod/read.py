# SPDX-License-Identifier: MIT
"""All modules read, on all processors: each process takes a share, and gives back one block of bytes.

Processes and not threads: Python's threads gain nothing for uncompressed files, and as much as processes for
xz alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from lkm.system.forked import Helper
from lkm.tree.depmod.elf import BadModule, Facts, Read, parse_facts
from lkm.tree.depmod.store import Outcome, pack_outcomes, unpack_outcomes

__all__ = ["explain", "read_module", "read_modules", "with_module"]

NOTHING: Facts = (b"", b"", b"", b"", b"")

_MAGIC = 6  # bytes that tell how a file is compressed; kmod takes none that is shorter
_MIN_SHARE = 64  # modules for which it pays to start a process
_MAX_PROCESSES = 16
_MAX_SIZE = 1 << 30  # bytes that a module may decompress to


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from lkm.formats.compression import Buffer, Decompressor

    _Result = TypeVar("_Result")


def with_module(path: bytes, parse: Callable[[Read, int], _Result]) -> _Result:
    """What `parse(read, size)` makes of a module file, uncompressed. Raises `BadModule` and OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise BadModule(errno.EINVAL, "it is no plain file")
        size = status.st_size
        if size < _MAGIC:
            raise BadModule(errno.EINVAL, "it is empty" if size == 0 else f"it has {size} bytes only")
        if os.pread(file, 4, 0) == b"\x7fELF":
            return parse(lambda offset, count: _read_whole(file, offset, count, size), size)
        plain = _decompress(_read_whole(file, 0, size, size))
    finally:
        os.close(file)
    view = memoryview(plain)
    return parse(lambda offset, count: bytes(view[offset : offset + count]), len(plain))


def _read_whole(file: int, offset: int, count: int, size: int) -> bytes:
    """What a file of `size` bytes has there. OSError if somebody has made it shorter."""
    data = os.pread(file, count, offset)
    if len(data) < min(count, size - offset):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return data


def read_module(path: bytes) -> Outcome:
    """What a module file says, and 0 or the errno with which it cannot be read."""
    try:
        return with_module(path, parse_facts)
    except BadModule as bad:
        return NOTHING, bad.code
    except OSError as error:
        return NOTHING, error.errno or errno.EIO


def explain(path: bytes) -> str:
    """Why `read_module` gives an errno for this file, which is read once more; "" if it does not know better."""
    try:
        _, code = with_module(path, parse_facts)
    except BadModule as bad:
        return bad.reason
    except OSError:
        return ""
    return "the names in its __ksymtab_strings have no end" if code else ""


class _Shared:
    """Made once a process."""

    decompressor: Decompressor | None = None


def _decompress(data: bytes) -> Buffer:
    from lkm.formats.compression import Compression, CompressionError, Decompressor, compression_of

    if compression_of(data) is Compression.NONE:
        raise BadModule(errno.ENOEXEC, "it is neither an ELF file nor compressed")
    decompress = _Shared.decompressor = _Shared.decompressor or Decompressor(_MAX_SIZE)
    try:
        return decompress(data)
    except CompressionError as error:
        raise BadModule(errno.EINVAL, str(error).partition(": ")[2]) from error


def read_modules(paths: Sequence[bytes], sizes: Sequence[int], processes: int) -> list[Outcome]:
    """The outcome of each path. `sizes`, of the files, serve to make the shares equal."""
    processes = max(1, min(processes, _MAX_PROCESSES, len(paths) // _MIN_SHARE))
    if processes == 1:
        return [read_module(path) for path in paths]
    by_size = sorted(range(len(paths)), key=sizes.__getitem__, reverse=True)
    shares = [by_size[start::processes] for start in range(processes)]
    helpers = [Helper(_reader([paths[number] for number in share])) for share in shares[1:]]
    found: list[Outcome] = [(NOTHING, 0)] * len(paths)
    for number in shares[0]:
        found[number] = read_module(paths[number])
    for share, helper in zip(shares[1:], helpers):
        block = helper.result()  # none if it was killed: what it was to do is done here
        outcomes = unpack_outcomes(block) if block else [read_module(paths[number]) for number in share]
        for number, outcome in zip(share, outcomes):
            found[number] = outcome
    return found


def _reader(paths: list[bytes]) -> Callable[[], bytes]:
    return lambda: pack_outcomes([read_module(path) for path in paths])
