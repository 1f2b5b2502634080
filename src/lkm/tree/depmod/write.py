# SPDX-License-Identifier: MIT
"""Files that are replaced whole, as a set: all are written beside the old ones, then renamed, modules.dep last.

What was killed halfway leaves temporary files, which tell the next run that the set is not one; so does what failed
after the first was renamed. `flock` on the directory keeps two runs apart, but not for ever: whoever may read the
directory can hold it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, flock

__all__ = ["FileError", "Place", "leftovers"]

_PREFIX = b".lkm-depmod."
LAST = b"modules.dep"
_WAIT = 60.0  # seconds for another run: it takes a few
_PATIENCE = 2.0  # seconds before it is told
_PAUSE = 0.05


class FileError(Exception):
    """A file could not be written: its path, and why. `mixed`: some of the others were replaced before."""

    def __init__(self, path: bytes, error: OSError, *, mixed: bool = False) -> None:
        super().__init__(path, error)
        self.path, self.error, self.mixed = path, error, mixed


def leftovers(directory: bytes) -> bool:
    """Whether an interrupted run has left something in `directory`: its files may not be of one set."""
    try:
        return any(name.startswith(_PREFIX) for name in os.listdir(directory))
    except OSError:
        return False


class Place:
    """A directory for files, locked: as long as it is open no other run replaces any. OSError if it is not there.

    tell   is given what to say where somebody else has the lock
    wait   seconds; who has it for longer is no depmod, and is not waited for: then the files of two runs may mix


    Files go by names relative to the directory, as in kmod: it stays the same one, also for a preloaded library
    that sends open(2) elsewhere and does not know of rename(2). Without flock(2) there is no lock.
    """

    def __init__(self, directory: bytes, tell: Callable[[str], None], *, wait: float = _WAIT) -> None:
        self.directory = directory
        self._file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        self._locked = False
        name, start, told = os.fsdecode(directory), time.monotonic(), False
        try:
            while not self._lock():
                waited = time.monotonic() - start
                if waited >= wait:
                    tell(f"{name}: locked by another process for {wait:.0f} s; going on without the lock")
                    break
                if waited > _PATIENCE and not told:
                    tell(f"{name}: locked by another process; waiting for up to {wait:.0f} s")
                    told = True
                time.sleep(_PAUSE)
        except BaseException:
            os.close(self._file)
            raise

    def _lock(self) -> bool:
        """Whether it is locked now, or cannot be at all."""
        try:
            flock(self._file, LOCK_EX | LOCK_NB)
            self._locked = True
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Let the next one in."""
        os.close(self._file)

    def replace(self, contents: dict[bytes, bytes]) -> None:
        """Write the files; what an interrupted run has left is removed.

        Raises `FileError`; the old files are as they were if one could not be written. Where it fails between two
        renames the rest stays, by which the next run sees that the files are of two sets.
        """
        for name in contents:
            self._check_target(name)
        written: list[tuple[bytes, bytes]] = []
        try:
            self._write_all(contents, written)
            written.sort(key=lambda pair: pair[1] == LAST)
            for temporary, name in written:
                with _Naming(self.directory, name):
                    os.rename(temporary, name, src_dir_fd=self._file, dst_dir_fd=self._file)
        except BaseException as error:
            mixed = written and self._mode(written[0][0]) is None and self._mode(written[-1][0]) is not None
            if isinstance(error, FileError):
                error.mixed = bool(mixed)
            for temporary, _ in written if not mixed else ():
                self._remove(temporary)
            raise
        if self._locked:  # without it they may be of another run, which still needs them
            self._remove_leftovers()

    def _write_all(self, contents: dict[bytes, bytes], written: list[tuple[bytes, bytes]]) -> None:
        """Write each file under a name that nobody knows before; both names go to `written` before it is there."""
        for name, content in contents.items():
            temporary = b"%s%s.%d.%s" % (_PREFIX, name, os.getpid(), os.urandom(8).hex().encode())
            written.append((temporary, name))
            with _Naming(self.directory, name):
                self._write(temporary, content)

    def _remove_leftovers(self) -> None:
        for left in os.listdir(self.directory):
            if left.startswith(_PREFIX):
                self._remove(left)

    def _write(self, name: bytes, content: bytes) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        file = os.open(name, flags, 0o644, dir_fd=self._file)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
        finally:
            os.close(file)

    def _check_target(self, name: bytes) -> None:
        """Raises `FileError` where no file can come, before any has."""
        mode = self._mode(name)
        if mode is not None and stat.S_ISDIR(mode):
            error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise FileError(os.path.join(self.directory, name), error)

    def _mode(self, name: bytes) -> int | None:
        """What is there under a name; None: nothing."""
        try:
            return os.stat(name, dir_fd=self._file, follow_symlinks=False).st_mode
        except OSError:
            return None

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
