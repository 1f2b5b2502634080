# SPDX-License-Identifier: MIT
"""Headers and build tools, extracted from a mirror in a directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lkm.errors import LabError, UsageError
from lkm.lab import headers
from lkm.lab.cache import silent
from lkm.lab.headers import header_tree
from lkm.lab.kernels import Kernel
from lkm.lab.process import run_tool
from lkm.lab.series import find_series
from tests.unit.lab.mirror import LocalMirror

RELEASE = "7.3.4+deb13-cloud-amd64"
KERNEL = Kernel(find_series("7.3"), RELEASE, "1", "/nonexistent")
FLAVOUR = f"usr/src/linux-headers-{RELEASE}"
MAKEFILE = f"KBUILD_OUTPUT=/{FLAVOUR}\ninclude /usr/src/linux-headers-7.3.4+deb13-common/Makefile\n"
TOOL = "usr/lib/linux-kbuild-7.3.4+deb13/scripts/basic/fixdep"
SUITE = "trixie-backports"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalMirror:
    """A mirror with the headers of `KERNEL`, but no build tools."""
    monkeypatch.setenv("LKM_LAB_CACHE", str(tmp_path / "cache"))
    mirror = LocalMirror(tmp_path / "mirror")
    monkeypatch.setattr(headers, "open_archive", mirror.open)
    files = {"Makefile": MAKEFILE, ".config": "CONFIG_X=y\n", "Module.symvers": ""}
    mirror.add(
        SUITE,
        f"linux-headers-{RELEASE}",
        {f"{FLAVOUR}/{name}": text.encode() for name, text in files.items()},
        depends="gcc-14-for-host, linux-headers-7.3.4+deb13-common (= 1), linux-kbuild-7.3.4+deb13",
    )
    common = {"usr/src/linux-headers-7.3.4+deb13-common/Makefile": b"all:\n\t@echo built $(KBUILD_OUTPUT)\n"}
    mirror.add(SUITE, "linux-headers-7.3.4+deb13-common", common)
    return mirror


def _libraries(program: str) -> list[str]:
    """What the dynamic loader of this machine loads for `program`, the loader among them."""
    return re.findall(r"(/\S+) \(0x", run_tool(["ldd", program]).decode())


def test_the_tree_is_used_where_it_lies_and_tools_that_run_are_left_alone(mirror: LocalMirror) -> None:
    tool = Path(shutil.which("true") or "/bin/true").read_bytes()
    mirror.add(SUITE, "linux-kbuild-7.3.4+deb13", {TOOL: tool})
    tree = header_tree(KERNEL)
    done = subprocess.run(["make", "-s", "-C", tree], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == f"built {tree}"
    assert Path(tree).parents[2].joinpath(TOOL).read_bytes() == tool
    assert header_tree(KERNEL, progress=pytest.fail) == tree


def test_a_tool_that_misses_a_library_starts_through_the_libraries_of_its_release(
    mirror: LocalMirror,
) -> None:
    program = os.path.realpath(shutil.which("bash") or "/bin/bash")
    found = {os.path.basename(path): Path(path).read_bytes() for path in _libraries(program)}
    name = next(name for name in found if name.startswith("libtinfo.so"))
    missing = name.replace("libtinfo", "libmossy")
    tool = Path(program).read_bytes().replace(f"\0{name}\0".encode(), f"\0{missing}\0".encode())
    mirror.add(SUITE, "linux-kbuild-7.3.4+deb13", {TOOL: tool})
    found[missing] = found.pop(name)
    mirror.add("trixie", "libc6", {f"usr/lib/x86/{name}": data for name, data in found.items()})
    for package in ("libelf1t64", "zlib1g", "libzstd1"):
        mirror.add("trixie", package, {"usr/lib/x86/README": b"x"})
    home = Path(header_tree(KERNEL)).parents[2]
    done = subprocess.run([home / TOOL, "-c", "echo it runs"], check=True, capture_output=True, text=True)
    assert done.stdout == "it runs\n"


def test_headers_of_another_version_are_refused(mirror: LocalMirror) -> None:
    with pytest.raises(LabError, match=r"no headers .* 2"):
        header_tree(replace(KERNEL, version="2"), progress=silent)
    assert mirror.top.is_dir()


def test_a_series_without_headers_names_those_that_have_them() -> None:
    kernel = replace(KERNEL, series=find_series("6.18"), release="6.18.15+deb13-cloud-amd64")
    with pytest.raises(UsageError, match=r"6\.18") as caught:
        header_tree(kernel)
    assert "7.3" in caught.value.remedy
    assert "6.18" not in caught.value.remedy
