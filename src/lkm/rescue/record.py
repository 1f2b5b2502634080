# SPDX-License-Identifier: MIT
"""The record of a rescue: plan and snapshot on disk and synced before the helper loads, completed afterwards.

Should the machine go down, the file says what was about to be done.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from lkm.errors import LkmError
from lkm.names import ModuleName
from lkm.rescue.plan import Plan
from lkm.system.snapshot import Snapshot

__all__ = ["Record", "default_heal_record_path", "default_record_path"]

SCHEMA = "lkm.record/1"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
STATE_DIR = "/var/lib/lkm"


def default_record_path(module: ModuleName, *, what: str = "rescue") -> str:
    """A new file in the state directory: `$LKM_STATE_DIR`, else /var/lib/lkm. Its name begins with `what` is done."""
    return _new_path(f"{what}-{module}")


def default_heal_record_path() -> str:
    """As `default_record_path`, for a heal."""
    return _new_path("heal")


def _new_path(what: str) -> str:
    folder = os.environ.get("LKM_STATE_DIR") or STATE_DIR
    return os.path.join(folder, f"{what}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.json")


class Record:
    """One file, rewritten whole (temporary name, sync, rename) whenever something is added."""

    def __init__(self, path: str, plan: Plan, before: Snapshot) -> None:
        self.path = path
        self._content: dict[str, Any] = {
            "schema": SCHEMA,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "outcome": "begun",
            "plan": plan.to_object(),
            "snapshot": before.to_object(),
        }
        self._write()

    def complete(self, outcome: str, *, detail: dict[str, Any]) -> str:
        """Add how it ended. What was done is done: why that could not be written is an answer, "" if it was."""
        self._content.update({"outcome": outcome, "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **detail})
        try:
            self._write()
        except LkmError as error:
            return f"its end is not recorded: {error.message}"
        return ""

    def _write(self) -> None:
        folder = os.path.dirname(os.path.abspath(self.path))
        temporary = f"{self.path}.{os.getpid()}.tmp"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            handle = os.open(temporary, _NEW_FILE, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(self._content, stream, indent=1)
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.path)
            _sync_folder(folder)
        except OSError as error:
            _remove(temporary)
            raise LkmError(
                f"the record {self.path} cannot be written: {error.strerror}",
                remedy="nothing is done without one; name another place with --record FILE",
            ) from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
