# SPDX-License-Identifier: MIT
"""`--sign-key` and `--sign-cert`: the signer of what a command loads into the kernel."""

from __future__ import annotations

import argparse
import os
import sys

from lkm.errors import UsageError
from lkm.rescue.signing import HASHES, Signer, load_signer
from lkm.root import Root
from lkm.system.config import read_config
from lkm.system.keyrings import keyrings_with

__all__ = ["add_signing_options", "read_signer"]

PASSPHRASE = "LKM_SIGN_PASSPHRASE"  # the name of a variable, not a secret


def add_signing_options(parser: argparse.ArgumentParser) -> None:
    """The two options, for a command that loads a helper."""
    parser.add_argument(
        "--sign-key", metavar="KEY", help="sign the helper with this private key (PEM or DER)"
    )
    parser.add_argument("--sign-cert", metavar="CERT", help="its certificate, which the kernel trusts")


def read_signer(arguments: argparse.Namespace, root: Root) -> Signer | None:
    """The signer that the options name, and where this kernel has its key; None without them.

    Raises UsageError for one without the other, and what `load_signer` raises.
    """
    key, certificate = arguments.sign_key, arguments.sign_cert
    if not key and not certificate:
        return None
    if not key or not certificate:
        raise UsageError("a signature needs both", remedy="give --sign-key and --sign-cert")
    built_in = read_config(root).get("CONFIG_MODULE_SIG_HASH", HASHES[0])
    signer = load_signer(key, certificate, hash_name=built_in, passphrase=lambda: _passphrase(key))
    keyrings = keyrings_with(root, signer.identity.id)
    return signer._replace(identity=signer.identity._replace(keyrings=keyrings))


def _passphrase(path: str) -> str:
    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"{path} is encrypted, and nobody can be asked", remedy=f"set {PASSPHRASE}")
    import getpass

    return getpass.getpass(f"passphrase of {path}: ")
