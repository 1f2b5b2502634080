# SPDX-License-Identifier: MIT
"""UEFI for guests: a store of variables in which a certificate stands, as the kernel finds it in `db`.

Debian's kernels take modules signed by a key of `db` (load_uefi_certs puts it into the keyring .platform, and
their mod_verify_sig looks there too), so that a test can have a key that the kernel trusts. With Secure Boot
the kernel locks itself down (integrity) and enforces signatures, also where QEMU hands it over directly.
"""

from __future__ import annotations

import os
import sys
import tempfile

from lkm.errors import LabError
from lkm.lab.cache import cache_dir, content_key, prune, sha256_file, use
from lkm.lab.process import run_tool

__all__ = ["firmware_arguments", "firmware_variables"]

CODE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
BLANK = "/usr/share/OVMF/OVMF_VARS_4M.fd"
"""Of the package ovmf: the firmware, and its variables as it leaves the factory, with no key enrolled."""

OWNER = "4d7c8b3e-6a0f-4f0e-9b52-1f3c5a7d9e21"
"""Who enrolled the certificate: every entry of a signature database names one."""


def firmware_variables(certificate: str, *, secure_boot: bool) -> str:
    """The path, in the cache, of a variable store with the PEM file `certificate` in `db`.

    With `secure_boot` it is the platform's key too, and Secure Boot is on. Raises LabError without the package
    ovmf or the library virt-firmware, or for a file that is no certificate.
    """
    if not (os.path.exists(CODE) and os.path.exists(BLANK)):
        raise LabError("there is no UEFI firmware for guests", remedy="install the package ovmf")
    home = cache_dir("firmware")
    key = content_key(sha256_file(certificate), os.stat(BLANK).st_mtime_ns, OWNER, secure_boot)
    path = os.path.join(home, f"{key}.fd")
    if not os.path.exists(path):
        prune(home)
        enrolled = ["--add-db", OWNER, certificate]
        if secure_boot:
            enrolled += ["--set-pk", OWNER, certificate, "--add-kek", OWNER, certificate, "--sb"]
        with tempfile.TemporaryDirectory(prefix=".new-", dir=home) as scratch:
            new = os.path.join(scratch, "vars.fd")
            run_tool(
                [sys.executable, "-m", "virt.firmware.vars", "-i", BLANK, "-o", new, *enrolled],
                remedy="is virt-firmware installed (the extra lab), and is the certificate a PEM file?",
            )
            os.replace(new, path)
    return use(path)


def firmware_arguments(variables: str) -> list[str]:
    """QEMU's arguments for a guest with these variables; what it writes to them goes with it."""
    flash = "if=pflash,format=raw"
    return [
        "-global", "driver=cfi.pflash01,property=secure,value=on",
        "-drive", f"{flash},unit=0,readonly=on,file={CODE}",
        "-drive", f"{flash},unit=1,snapshot=on,file={variables.replace(',', ',,')}",
    ]  # fmt: skip
