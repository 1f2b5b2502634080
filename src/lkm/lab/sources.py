# SPDX-License-Identifier: MIT
"""Which Debian mirror the lab uses: `$LKM_LAB_MIRROR`, else that of this machine's apt sources.

Those are read in both formats (sources.list(5)).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lkm.errors import LabError
from lkm.root import Root

__all__ = ["Mirror", "Source", "find_mirror", "parse_deb822", "parse_one_line", "read_sources"]

CODENAMES = (
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
)
NO_MIRROR_REMEDY = "name a Debian mirror with --mirror URL or LKM_LAB_MIRROR"


@dataclass(frozen=True)
class Source:
    """One entry: every URI with every suite."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False


@dataclass(frozen=True)
class Mirror:
    """Where the archive and its security suites are; `trusted` if the machine takes it without signatures."""

    archive: str
    security: str
    trusted: bool = False


def parse_one_line(text: str) -> Iterator[Source]:
    """The `deb [option=value …] URI suite component…` lines of a `.list` file."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?([^#]*)", line)
        if not match:
            continue
        words = match.group(2).split()
        if len(words) < 2:
            continue
        options = dict(word.split("=", 1) for word in (match.group(1) or "").split() if "=" in word)
        yield Source(
            (words[0],),
            (words[1],),
            tuple(words[2:]),
            options.get("signed-by", ""),
            options.get("trusted", "") == "yes",
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """The stanzas of a `.sources` file that are enabled and of type `deb`."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in " \t":
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        yield Source(
            tuple(fields.get("uris", "").split()),
            tuple(fields.get("suites", "").split()),
            tuple(fields.get("components", "").split()),
            fields.get("signed-by", "").strip(),
            fields.get("trusted", "").lower() == "yes",
        )


def read_sources(root: Root) -> list[Source]:
    """All entries of `/etc/apt` below `root`."""
    directory = root.join("/etc/apt")
    names = [os.path.join(directory, "sources.list")]
    names += sorted(glob.glob(os.path.join(glob.escape(directory), "sources.list.d", "*")))
    sources: list[Source] = []
    for name in names:
        parse = {".list": parse_one_line, ".sources": parse_deb822}.get(os.path.splitext(name)[1])
        if parse is None or not os.path.isfile(name):
            continue
        with open(name, encoding="utf-8", errors="replace") as stream:
            sources += parse(stream.read())
    return sources


def find_mirror(root: Root) -> Mirror:
    """The mirror that `$LKM_LAB_MIRROR` names, else the one in the machine's apt sources.

    A third-party entry may use a Debian codename too, so the entry signed by Debian's keyring or carrying
    `-updates` wins. Raises LabError when the sources name no Debian mirror (an Ubuntu host, say).
    """
    explicit = os.environ.get("LKM_LAB_MIRROR", "")
    if explicit:
        return Mirror(explicit.rstrip("/"), _security_of(explicit))
    sources = [source for source in read_sources(root) if "main" in source.components and source.uris]
    best = max(filter(_is_archive, sources), key=_likelihood, default=None)
    if best is None:
        raise LabError("the apt sources of this machine name no Debian mirror", remedy=NO_MIRROR_REMEDY)
    archive = best.uris[0].rstrip("/")
    security = [source for source in sources if any(_is_security(suite) for suite in source.suites)]
    chosen = max(security, key=_likelihood, default=None)
    return Mirror(archive, chosen.uris[0].rstrip("/") if chosen else _security_of(archive), best.trusted)


def _security_of(archive: str) -> str:
    """Mirrors lay the security archive beside the main one."""
    return archive.rstrip("/") + "-security"


def _is_archive(source: Source) -> bool:
    return any(suite in CODENAMES for suite in source.suites)


def _is_security(suite: str) -> bool:
    return any(suite in (f"{name}-security", f"{name}/updates") for name in CODENAMES)


def _likelihood(source: Source) -> tuple[bool, bool, bool]:
    updates = any(suite.endswith("-updates") for suite in source.suites)
    return "debian-archive" in source.signed_by, updates, source.uris[0].rstrip("/").endswith("/debian")
