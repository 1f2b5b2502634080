# SPDX-License-Identifier: MIT
"""Keys of the kernel, as /proc/keys lists them, and what is known of the key that signs a module.

Source: proc_keys_show in security/keys/proc.c and asymmetric_key_describe in
crypto/asymmetric_keys/asymmetric_type.c, the same in 5.10 and 7.x.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

__all__ = ["KernelKey", "SigningKey", "parse_proc_keys"]

_LINE = re.compile(
    r"^(?P<serial>[0-9a-f]{8}) (?P<flags>\S{7}) +-?\d+ +\S+ [0-9a-f]{8} +-?\d+ +-?\d+ (?P<type>.{9}) (?P<rest>.*)$"
)
_CERTIFICATE = re.compile(r": ([0-9a-f]+): X509\.")
_USELESS = set("RDi")  # revoked, dead, invalidated


class KernelKey(NamedTuple):
    """One line of /proc/keys.

    serial  the kernel's number of it
    type    `keyring`, `asymmetri` (cut after nine characters), …
    name    of a keyring: its name
    id      of a certificate: its subject key identifier, or where it has none its serial number; hexadecimal
    """

    serial: int
    type: str
    name: str = ""
    id: str = ""


class SigningKey(NamedTuple):
    """The key that would sign a module.

    subject   of its certificate
    id        as in `KernelKey`
    keyrings  the kernel's keyrings for modules that have it; None: that could not be read
    """

    subject: str
    id: str
    keyrings: Optional[tuple[str, ...]] = None


def parse_proc_keys(text: str) -> tuple[KernelKey, ...]:
    """The keys that can be used, others and lines of another form left out."""
    found = []
    for match in filter(None, map(_LINE.match, text.splitlines())):
        if _USELESS & set(match["flags"]):
            continue
        kind = match["type"].strip()
        certificate = _CERTIFICATE.search(match["rest"])
        name = match["rest"].rpartition(":")[0] if kind == "keyring" else ""
        found.append(KernelKey(int(match["serial"], 16), kind, name, certificate[1] if certificate else ""))
    return tuple(found)
