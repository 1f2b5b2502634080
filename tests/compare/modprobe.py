# SPDX-License-Identifier: MIT
"""modprobe -D, -R and -c over whole trees: every module, 2,000 aliases, symbols, what is built in: as kmod has it."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.compare.trees import KERNELS, indexed_tree
from tests.machine.fake import kmod_path

__all__ = ["compare"]

ALIASES = 2000
"""How many are asked for, of each tree."""

SYMBOLS = 500

CONF = """\
alias net-pf-* dummy
options ext4 a=1 b="x y"
options crc16	c=1
blacklist e1000e
softdep ext4 pre: crc32c post: zlib_deflate
install nfsd /sbin/modprobe --ignore-install nfsd $CMDLINE_OPTS
remove nfsd /bin/true
"""


def compare() -> list[str]:
    """What differs, in words."""
    return [line for kernel in KERNELS for line in _compare_kernel(kernel)]


def _compare_kernel(kernel: str) -> Iterator[str]:
    chance = random.Random(1)
    with indexed_tree(kernel) as (top, release), tempfile.TemporaryDirectory() as made:
        configuration = Path(made) / "a.conf"
        configuration.write_text(CONF, encoding="utf-8")
        folder = f"{top}/lib/modules/{release}"
        names = [_name(line.partition(":")[0]) for line in _lines(f"{folder}/modules.dep")]
        builtin = [_name(line) for line in _lines(f"{folder}/modules.builtin")]
        patterns = [line.split()[1] for line in _lines(f"{folder}/modules.alias")]
        aliases = [_instance(text, chance) for text in chance.sample(patterns, min(ALIASES, len(patterns)))]
        symbols = [line.split()[1] for line in _lines(f"{folder}/modules.symbols")]
        symbols = chance.sample(symbols, min(SYMBOLS, len(symbols)))
        place = ("-d", top, "-S", release)
        count = 0
        for extra in ((), ("-C", str(configuration))):
            yield from _compare_call([*place, *extra, "-c"], f"{release}: modprobe {' '.join(extra[:1])} -c")
            for option, operands in itertools.product(("-D", "-R"), (names, builtin, aliases, symbols)):
                argv = [*place, *extra, option, "-a", *operands, "no-such-module"]
                yield from _compare_call(
                    argv, f"{release}: modprobe {' '.join(extra[:1])} {option} {operands[0]} …"
                )
                count += len(operands)
        print(f"modprobe: {count} answers about {len(names)} modules of {release} compared")


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if not line.startswith("#")]


def _name(path: str) -> str:
    return os.path.basename(path).partition(".")[0]


def _instance(pattern: str, chance: random.Random) -> str:
    """Something that the pattern matches."""
    text = re.sub(r"\[(.)[^]]*\]", r"\1", pattern)
    return re.sub(r"\*", lambda _: chance.choice(["", "0", "00000001", "abc"]), text)


def _compare_call(argv: Sequence[str], what: str) -> Iterator[str]:
    ours = subprocess.run([sys.executable, "-m", "lkm", "modprobe", *argv], capture_output=True, check=False)
    theirs = subprocess.run([kmod_path("modprobe"), *argv], capture_output=True, check=False)
    if ours.returncode != theirs.returncode:
        yield f"{what}: exit code {ours.returncode}, kmod's {theirs.returncode}"
    if not theirs.stdout:
        yield f"{what}: kmod printed nothing, so nothing was compared"
    for verb, found, expected in (
        ("prints", ours.stdout, theirs.stdout),
        ("says", ours.stderr, theirs.stderr),
    ):
        pairs = itertools.zip_longest(found.splitlines(), expected.splitlines(), fillvalue=b"nothing")
        for line, (mine, other) in enumerate(pairs, 1):
            if mine != other:
                yield f"{what} {verb} in line {line} {mine!r}, kmod {other!r}"
                break
