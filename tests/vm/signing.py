# SPDX-License-Identifier: MIT
"""What tests of signed helpers need in a guest: a key, the faults signed by it, and the library that signs."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve

from lkm.lab.process import find_tool
from lkm.lab.vm import Guest
from lkm.rescue.signing import load_signer, sign_module
from tests.keys import KeyPair, make_key_pair
from tests.vm.talk import Answer

__all__ = ["Signed", "ask_signing", "sign_faults"]

LIBRARY = "python"
"""Below the share: what the guest's Python, which has no library but its own, needs to sign."""


class Signed(NamedTuple):
    """A directory for a guest: the faults as `*.ko`, signed, `lab.key` and `lab.pem`; and where the pair is here."""

    share: str
    pair: KeyPair


def sign_faults(directory: Path, faults: str, curve: EllipticCurve | None = None) -> Signed:
    """Fill `directory`; the key is on `curve`, or RSA."""
    share = directory / "share"
    (share / LIBRARY).mkdir(parents=True)
    pair = make_key_pair(share, "lab", curve=curve)
    signer = load_signer(pair.key, pair.certificate, passphrase=str)
    for path in glob.glob(f"{faults}/*.ko"):
        (share / os.path.basename(path)).write_bytes(sign_module(Path(path).read_bytes(), signer))
    for name in ("cryptography", "_cffi_backend"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise AssertionError(f"{name} is not installed: make setup")
        if spec.submodule_search_locations:
            shutil.copytree(os.path.dirname(spec.origin), share / LIBRARY / name)
        else:
            shutil.copy(spec.origin, share / LIBRARY)
    for path in _libraries(share / LIBRARY):
        shutil.copy(path, share / LIBRARY)
    return Signed(str(share), pair)


def _libraries(directory: Path) -> set[str]:
    """The shared libraries that it wants: here and in the guest they are the same."""
    wanted = ""
    for path in directory.rglob("*.so"):
        wanted += subprocess.run([find_tool("ldd"), path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"=> (/\S+)", wanted))


def ask_signing(guest: Guest, *argv: str, **env: str) -> Answer:
    """Run one lkm command line where its Python can sign."""
    library = f"/share/{LIBRARY}"
    done = guest.run(
        ["lkm", *argv], env={"PYTHONPATH": library, "LD_LIBRARY_PATH": library, **env}, timeout=120
    )
    return Answer(argv, done.returncode, done.stdout.decode(), done.stderr.decode())
