# SPDX-License-Identifier: MIT
"""Packages from a Debian archive, by apt with a configuration of its own: the host's state stays untouched.

apt verifies the signature of the suites and the SHA-256 of every package (apt-secure(8)). No root needed.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lkm.errors import LabError
from lkm.lab.cache import (
    Progress,
    cache_dir,
    content_key,
    intact,
    locked,
    publish,
    sha256_file,
    write_manifest,
)
from lkm.lab.process import find_tool, run_tool
from lkm.lab.sources import Mirror, find_mirror
from lkm.root import Root

__all__ = ["Archive", "Package", "newest", "open_archive"]

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LISTS_LIFETIME = 24 * 3600
"""Seconds for which downloaded package lists are good enough to look for a newer kernel."""

OFFLINE_REMEDY = "check the network and the mirror (--mirror URL or LKM_LAB_MIRROR)"


@dataclass(frozen=True)
class Package:
    """One version of a package, as the archive's index has it."""

    name: str
    version: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()
    """Names of the packages that it needs, without versions and alternatives."""


class Archive:
    """The main and security suites of a few releases: packages for one architecture, or `sources` instead."""

    def __init__(
        self,
        mirror: Mirror,
        suites: Sequence[str],
        architecture: str,
        progress: Progress,
        *,
        sources: bool = False,
    ) -> None:
        self._progress = progress
        self._mirror = mirror
        self._suites = tuple(suites)
        self._architecture = architecture
        self._kind, self._index = ("deb-src", "_Sources") if sources else ("deb", "_Packages")
        key = (mirror, self._suites, architecture, *(["sources"] if sources else []))
        self._home = cache_dir("archive", content_key(*key))
        self._config = os.path.join(self._home, "apt.conf")

    def packages(self, pattern: str) -> list[Package]:
        """All versions of all packages whose name matches the (anchored, POSIX extended) `pattern`."""
        with locked("archive"):
            self._refresh(force=False)
            found = self._search(pattern)
            if not found:
                self._refresh(force=True)
                found = self._search(pattern)
        return found

    def refresh(self) -> None:
        """Read the package lists again, however fresh they are."""
        with locked("archive"):
            self._refresh(force=True)

    def fetch(self, package: Package) -> str:
        """The path of the package's verified `.deb` in the cache; downloaded if it is not there."""
        path = self.deb_path(package.name, package.version, self._architecture)
        with locked("archive"):
            if os.path.exists(path) and sha256_file(path) == package.sha256:
                return path
            self._progress(f"downloading {package.name} {package.version} ({package.size / 1e6:.0f} MB)")
            scratch = cache_dir("archive", "partial")
            self._apt("apt-get", "-q", "download", f"{package.name}={package.version}", cwd=scratch)
            for name in os.listdir(scratch):
                candidate = os.path.join(scratch, name)
                if sha256_file(candidate) == package.sha256:
                    os.replace(candidate, path)
                    return path
                os.unlink(candidate)
        raise LabError(f"{package.name} {package.version} came with another checksum", remedy=OFFLINE_REMEDY)

    def fetch_upstream(self, name: str) -> str:
        """The path of the upstream tarball of the newest source package `name`, verified; fetched once.

        Only an archive that was opened with `sources` has any.
        """
        home = os.path.join(cache_dir("sources"), name)
        with locked("archive"):
            if not intact(home):
                self._refresh(force=False)
                self._progress(f"downloading the source of {name}")
                with publish(home) as scratch:
                    self._apt("apt-get", "-q", "source", "--download-only", "--tar-only", name, cwd=scratch)
                    write_manifest(scratch, {"name": name})
        tarballs = [entry for entry in os.listdir(home) if re.search(r"\.orig\.tar\.\w+$", entry)]
        if len(tarballs) != 1:
            raise LabError(f"the source package {name} has {len(tarballs)} upstream tarballs instead of one")
        return os.path.join(home, tarballs[0])

    @staticmethod
    def deb_path(name: str, version: str, architecture: str) -> str:
        """Where the cache keeps a package of the archive of `architecture`."""
        return os.path.join(cache_dir("debs"), f"{name}_{version.replace(':', '%3a')}_{architecture}.deb")

    def _search(self, pattern: str) -> list[Package]:
        lines = self._apt("apt-cache", "search", "--names-only", pattern).decode().splitlines()
        names = [line.split()[0] for line in lines if line]
        return list(_stanzas(self._apt("apt-cache", "show", *names).decode())) if names else []

    def _refresh(self, *, force: bool) -> None:
        """Write the configuration and bring the package lists up to date, unless they are fresh."""
        stamp = os.path.join(self._home, "updated")
        if not force and os.path.exists(stamp) and time.time() - os.stat(stamp).st_mtime < LISTS_LIFETIME:
            return
        if not self._mirror.trusted and not os.path.exists(KEYRING):
            raise LabError(
                f"{KEYRING} is not there, so nothing from the archive can be verified",
                remedy="install the package debian-archive-keyring",
            )
        self._write_config()
        self._progress(f"reading the package lists of {', '.join(self._suites)}")
        done = subprocess.run(
            [find_tool("apt-get"), "-q", "update"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        # A suite may be missing (a mirror without the security archive): what counts is which lists arrived.
        if not any(self._index in name for name in os.listdir(os.path.join(self._home, "lists"))):
            complaint = _first_complaint(done.stderr.decode(errors="replace"))
            raise LabError(f"no package list from {self._mirror.archive}: {complaint}", remedy=OFFLINE_REMEDY)
        with open(stamp, "w", encoding="utf-8"):
            pass

    def _apt(self, *argv: str, cwd: str | None = None) -> bytes:
        return run_tool(argv, env=self._environment(), cwd=cwd, remedy=OFFLINE_REMEDY)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": self._config, "LC_ALL": "C"}

    def _write_config(self) -> None:
        home = self._home
        for name in ("lists/partial", "cache/archives/partial", "empty"):
            os.makedirs(os.path.join(home, name), exist_ok=True)
        option = "trusted=yes" if self._mirror.trusted else f"signed-by={KEYRING}"
        entries = []
        for suite in self._suites:
            entries.append(f"{self._kind} [{option}] {self._mirror.archive} {suite} main\n")
            if suite != "sid" and not suite.endswith("-backports"):
                entries.append(f"{self._kind} [{option}] {self._mirror.security} {suite}-security main\n")
        _write(f"{home}/sources.list", "".join(entries))
        _write(f"{home}/status", "")
        # The host's apt.conf.d may hold hooks that clean the host's own cache: only its network options
        # (proxies, certificates) are taken over.
        dump = run_tool(["apt-config", "dump"]).decode().splitlines()
        acquire = [line for line in dump if re.match(r"Acquire::(https?|ForceIPv[46])\b", line)]
        _write(
            self._config,
            "\n".join(
                [
                    *acquire,
                    f'Dir::State "{home}";',
                    f'Dir::State::Lists "{home}/lists";',
                    f'Dir::State::status "{home}/status";',
                    f'Dir::Cache "{home}/cache";',
                    f'Dir::Etc::SourceList "{home}/sources.list";',
                    f'Dir::Etc::SourceParts "{home}/empty";',
                    'Dir::Etc::Main "/dev/null";',
                    f'Dir::Etc::Parts "{home}/empty";',
                    'Dir::Etc::Preferences "/dev/null";',
                    f'Dir::Etc::PreferencesParts "{home}/empty";',
                    f'APT::Architecture "{self._architecture}";',
                    f'APT::Architectures {{ "{self._architecture}"; }};',
                    'APT::Sandbox::User "root";',
                    'Acquire::Languages "none";',
                    'Acquire::Retries "1";',
                    'Acquire::http::Timeout "20";',
                    'Acquire::https::Timeout "20";',
                    "",
                ]
            ),
        )


def open_archive(
    suites: Sequence[str], architecture: str, *, progress: Progress, sources: bool = False
) -> Archive:
    """The archive at `$LKM_LAB_MIRROR`, or where the machine's own apt sources point."""
    return Archive(find_mirror(Root.live()), suites, architecture, progress, sources=sources)


def newest(packages: Iterable[Package]) -> Package | None:
    """The package of the highest version, in dpkg's order."""
    return max(packages, key=functools.cmp_to_key(_compare), default=None)


def _compare(one: Package, other: Package) -> int:
    if one.version == other.version:
        return 0
    argv = [find_tool("dpkg"), "--compare-versions", one.version, "gt", other.version]
    return 1 if subprocess.run(argv, check=False).returncode == 0 else -1


def _stanzas(text: str) -> Iterable[Package]:
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if "SHA256" in fields:
            depends = tuple(part.split()[0] for part in fields.get("Depends", "").split(", ") if part)
            yield Package(
                fields["Package"], fields["Version"], fields["SHA256"], int(fields["Size"]), depends
            )


def _first_complaint(stderr: str) -> str:
    for line in stderr.splitlines():
        if line.startswith(("E: ", "W: ", "Err")):
            return line[3:].strip()
    return "apt-get update said nothing"


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
