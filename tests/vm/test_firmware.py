# SPDX-License-Identifier: MIT
"""Guests that start by UEFI, with a certificate of ours in `db`: the kernel has its key, and may be locked down."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.lab.vm import Guest
from tests.keys import make_key_pair


@pytest.mark.parametrize(
    ("secure_boot", "lockdown", "enforced"),
    [(False, b"[none]", b"N\n"), (True, b"[integrity]", b"Y\n")],
    ids=["enrolled", "Secure Boot"],
)
def test_the_kernel_has_the_key(tmp_path: Path, secure_boot: bool, lockdown: bytes, enforced: bytes) -> None:
    pair = make_key_pair(tmp_path, "a key of the lab")
    with Guest.boot("6.1", firmware_cert=pair.certificate, secure_boot=secure_boot) as guest:
        assert b"a key of the lab" in guest.get("/proc/keys")
        assert lockdown in guest.get("/sys/kernel/security/lockdown")
        assert guest.get("/sys/module/module/parameters/sig_enforce") == enforced
