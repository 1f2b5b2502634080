# SPDX-License-Identifier: MIT
"""Templates of guests: which boot a clone may be taken of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lkm.lab import machine, template
from lkm.lab.architecture import find_architecture
from lkm.lab.machine import Hardware


def test_a_template_goes_by_all_that_qemu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "qemu_identity", lambda emulator: f"{emulator} 7.2")
    for name in ("vmlinuz", "modules"):
        (tmp_path / name).write_text("")
    hardware = Hardware(find_architecture("amd64"), f"{tmp_path}/vmlinuz", "initrd", f"{tmp_path}/modules")
    keys = {template._key(hardware), template._key(replace(hardware, cpu="Nehalem"))}
    monkeypatch.setattr(machine, "COMMAND_LINE", "panic=-1")
    keys.add(template._key(hardware))
    assert len(keys) == 3
    assert template._key(hardware) in keys
