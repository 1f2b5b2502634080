# SPDX-License-Identifier: MIT
"""depmod on whole trees: every file as kmod writes it, an index by its rows, and what it says."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lkm.cli.kmod.main import run
from lkm.lab.module_tree import module_tree
from tests.compare.trees import KERNELS, indexed_tree
from tests.depmod import read_files
from tests.machine.fake import kmod_path

OPTIONS = (("-n",), ("-v", "-n"), ("-w", "-n"), ("-e", "-F", "MAP", "-n"), ("-e", "-E", "SYMVERS", "-n"))
"""MAP and SYMVERS: files that know some names only, and have the wrong versions of them."""

UNKNOWN_TO_PEER = ("weakdep ", "# Weak ")


def compare() -> list[str]:
    """A line for each difference."""
    found = []
    for kernel in KERNELS:
        with indexed_tree(kernel) as (top, release):
            found += [f"{kernel}: {line}" for line in _files(Path(top), release)]
            found += [f"{kernel}: {line}" for line in _texts(top, release)]
    for suffix in (".xz",):
        top, release = module_tree(KERNELS[0], suffix=suffix, progress=print)
        found += [f"{KERNELS[0]} as .ko{suffix}: {line}" for line in _against_plain(top, release, suffix)]
    return found


def _files(top: Path, release: str) -> Iterator[str]:
    """Against those that kmod has put there; then again without modules.order, which kmod's own order replaces."""
    directory = top / "lib/modules" / release
    for missing in ((), ("modules.order",), ("modules.builtin", "modules.builtin.modinfo")):
        for name in missing:
            (directory / name).unlink(missing_ok=True)
        subprocess.run([kmod_path("depmod"), "-b", str(top), release], check=True, capture_output=True)
        theirs = read_files(directory)
        ours = _made_by_lkm(str(top), release)
        print(f"depmod: {release} without {missing}: {sum(map(_length, theirs.values()))} lines and rows")
        for name, content in theirs.items():
            if ours[name] != content:
                yield f"modules.{name} without {', '.join(missing) or 'nothing'}"


def _length(content: object) -> int:
    return len(content) if isinstance(content, list) else 0


def _made_by_lkm(top: str, release: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="lkm-compare-") as output:
        with contextlib.redirect_stderr(io.StringIO()):
            assert run("depmod", ["-b", top, "-o", output, release]) == 0
        return read_files(Path(output) / "lib/modules" / release)


def _texts(top: str, release: str) -> Iterator[str]:
    """Standard output and messages."""
    with tempfile.TemporaryDirectory(prefix="lkm-compare-") as directory:
        names = sorted(_symbols(f"{top}/lib/modules/{release}/modules.symbols"))[::2]
        files = {"MAP": f"{directory}/map", "SYMVERS": f"{directory}/symvers"}
        with open(files["MAP"], "w", encoding="ascii") as file:
            file.writelines(f"ffffffff81000000 r __ksymtab_{name}\n" for name in (*names, "_printk"))
        with open(files["SYMVERS"], "w", encoding="ascii") as file:
            file.writelines(f"0x12345678\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n" for name in (*names, "_printk"))
        for options in OPTIONS:
            arguments = [files.get(option, option) for option in options]
            argv = ["-b", top, *arguments, release]
            theirs = subprocess.run([kmod_path("depmod"), *argv], check=True, capture_output=True)
            ours = subprocess.run(
                [sys.executable, "-m", "lkm", "depmod", *argv], check=True, capture_output=True
            )
            print(f"depmod {' '.join(options)}: {len(theirs.stdout) + len(theirs.stderr)} bytes")
            for name, one, other in (
                ("output", ours.stdout, theirs.stdout),
                ("messages", ours.stderr, theirs.stderr),
            ):
                if _lines(one) != _lines(other):
                    yield f"{name} of depmod {' '.join(options)}"


def _lines(text: bytes) -> list[str]:
    lines = text.decode().splitlines()
    return sorted(line for line in lines if not line.startswith(UNKNOWN_TO_PEER))


def _symbols(path: str) -> Iterator[str]:
    with open(path, encoding="ascii") as file:
        for line in file:
            if line.startswith("alias symbol:"):
                yield line.split()[1].partition(":")[2]


def _against_plain(top: str, release: str, suffix: str) -> Iterator[str]:
    """Compression changes nothing but the names of the files."""
    plain, _ = module_tree(KERNELS[0], suffix="", progress=print)
    ours, theirs = _made_by_lkm(top, release), _made_by_lkm(plain, release)
    for name, content in theirs.items():
        if repr(ours[name]).replace(f".ko{suffix}", ".ko") != repr(content):
            yield f"modules.{name}"
