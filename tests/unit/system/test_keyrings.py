# SPDX-License-Identifier: MIT
"""The kernel's keys as /proc/keys lists them."""

from __future__ import annotations

from pathlib import Path

from lkm.formats.keys import KernelKey, parse_proc_keys
from lkm.root import Root
from lkm.system.keyrings import keyrings_with

LISTED = """\
072eb6b5 I------     1 perm 1f0f0000     0     0 keyring   .secondary_trusted_keys: 2
07951a0f I------     2 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1
07f25b7b I------     2 perm 1f0b0000     0     0 keyring   .machine: empty
14867d75 I------     1 perm 1f0b0000     0     0 keyring   .platform: 1
1ba50317 I--Q---     2 perm 3f030000     0 65534 keyring   _uid.0: empty
21e3293b I------     1 perm 1f030000     0     0 asymmetri Build time key: cf735cef1ccc1e: X509.rsa 524668e2 []
26564e6b I------     1 perm 1f010000     0     0 asymmetri A: key, of ours: 93c5d604df3e694a: X509.rsa 83c4531e []
2664ffff I--Q---     1   3d 1f010000     0     0 user      something: 12
2d56f3a5 IR-----     1 expd 1f010000 -1000     0 asymmetri gone: 0102: X509.rsa 0102 []
295a66d3 I------     2 perm 09090000     0     0 blacklist bin:e3b0c44298fc1c14
not a line
"""
OURS = "93c5d604df3e694a"


def test_keys_and_keyrings_are_told_apart() -> None:
    keys = {key.serial: key for key in parse_proc_keys(LISTED)}
    assert keys[0x14867D75] == KernelKey(0x14867D75, "keyring", name=".platform")
    assert keys[0x07F25B7B].name == ".machine"
    assert keys[0x26564E6B] == KernelKey(0x26564E6B, "asymmetri", id=OURS)
    assert keys[0x2664FFFF].id == keys[0x2664FFFF].name == ""
    assert 0x2D56F3A5 not in keys  # revoked
    assert len(keys) == 9
    assert parse_proc_keys("") == ()


def _tree(top: Path, text: str) -> Root:
    (top / "proc").mkdir()
    (top / "proc/keys").write_text(text)
    return Root(str(top), "6.1.0")


def test_a_key_that_is_nowhere_is_in_no_keyring(tmp_path: Path) -> None:
    assert keyrings_with(_tree(tmp_path, LISTED), "0102") == ()


def test_where_no_keyring_is_shown_nothing_is_known(tmp_path: Path) -> None:
    assert keyrings_with(Root(str(tmp_path), "6.1.0"), OURS) is None
    shown = "\n".join(line for line in LISTED.splitlines() if "keyring" not in line)
    assert keyrings_with(_tree(tmp_path, shown), OURS) is None
