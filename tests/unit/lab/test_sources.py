# SPDX-License-Identifier: MIT
"""Where the Debian mirror comes from: the machine's apt sources, in both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkm.errors import LabError
from lkm.lab.sources import Mirror, Source, find_mirror, parse_deb822, parse_one_line
from lkm.root import Root

DEB822 = """\
Types: deb
# a comment in between
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
UBUNTU = """\
Types: deb
URIs: http://ubuntu.example/ubuntu/
Suites: jammy jammy-updates
Components: main universe
"""


@pytest.fixture(autouse=True)
def _no_mirror_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LKM_LAB_MIRROR", raising=False)


def _root(tmp_path: Path, **files: str) -> Root:
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        directory = tmp_path / "etc/apt" if stem == "sources" else tmp_path / "etc/apt/sources.list.d"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{stem}.{suffix}").write_text(text)
    return Root(str(tmp_path))


def test_deb822_stanzas() -> None:
    first, second = parse_deb822(DEB822)
    assert first.uris == ("http://mirror.example/debian",)
    assert first.suites == ("bookworm", "bookworm-updates")
    assert second.suites == ("bookworm-security",)


def test_deb822_continued_lines_and_inline_keys() -> None:
    text = (
        "Types: deb\nURIs:\n http://a.example/debian\n http://b.example/debian\nSuites: sid\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP-----\n .\n abc\nTrusted: yes\n"
    )
    (source,) = parse_deb822(text)
    assert source.uris == ("http://a.example/debian", "http://b.example/debian")
    assert source.trusted


def test_one_line_format() -> None:
    text = (
        "# deb http://no.example/debian bookworm main\n"
        "deb-src http://no.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] http://m.example/debian bookworm main contrib # note\n"
        "deb http://short.example\n"
    )
    assert list(parse_one_line(text)) == [
        Source(("http://m.example/debian",), ("bookworm",), ("main", "contrib"), "/k.gpg")
    ]


def test_mirror_and_security_come_from_the_machine(tmp_path: Path) -> None:
    root = _root(tmp_path, debian_sources=DEB822)
    assert find_mirror(root) == Mirror(
        "http://mirror.example/debian", "http://security.example/debian-security"
    )


def test_security_is_beside_the_archive_when_the_sources_do_not_say(tmp_path: Path) -> None:
    root = _root(tmp_path, sources_list="deb http://m.example/debian trixie main\n")
    assert find_mirror(root).security == "http://m.example/debian-security"


def test_a_third_party_with_a_debian_codename_is_not_the_mirror(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        aaa_list="deb [signed-by=/k.gpg] https://vendor.example/apt bookworm main\n",
        debian_sources=DEB822,
    )
    assert find_mirror(root).archive == "http://mirror.example/debian"


@pytest.mark.parametrize("files", [{}, {"ubuntu_sources": UBUNTU}], ids=["none", "ubuntu"])
def test_without_a_debian_mirror_the_remedy_is_to_name_one(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(LabError, match="LKM_LAB_MIRROR") as caught:
        find_mirror(_root(tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_an_explicit_mirror_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_LAB_MIRROR", "http://x.example/debian/")
    mirror = find_mirror(_root(tmp_path, debian_sources=DEB822))
    assert mirror == Mirror("http://x.example/debian", "http://x.example/debian-security")
