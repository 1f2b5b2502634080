# SPDX-License-Identifier: MIT
"""A guest's UEFI variables: made once for a certificate; what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.errors import LabError
from lkm.lab import firmware
from lkm.lab.firmware import firmware_variables
from tests.keys import make_key_pair


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "cache"))


def test_the_certificate_is_enrolled_and_the_store_made_once(tmp_path: Path) -> None:
    pair = make_key_pair(tmp_path, "mine")
    enrolled = firmware_variables(pair.certificate, secure_boot=False)
    locked = firmware_variables(pair.certificate, secure_boot=True)
    variables = {path: Path(path).read_bytes() for path in (enrolled, locked)}
    assert all(b"m\0i\0n\0e" in data or b"mine" in data for data in variables.values())
    assert "SecureBootEnable".encode("utf-16-le") in variables[locked]
    assert "SecureBootEnable".encode("utf-16-le") not in variables[enrolled]
    made = Path(enrolled).stat().st_ino
    assert firmware_variables(pair.certificate, secure_boot=False) == enrolled
    assert Path(enrolled).stat().st_ino == made


def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing\n")
    with pytest.raises(LabError, match="PEM"):
        firmware_variables(str(bad), secure_boot=False)
    assert not list((tmp_path / "cache/firmware").iterdir())


def test_without_the_firmware_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_key_pair(tmp_path, "mine")
    monkeypatch.setattr(firmware, "CODE", str(tmp_path / "none.fd"))
    with pytest.raises(LabError, match="package ovmf"):
        firmware_variables(pair.certificate, secure_boot=False)
