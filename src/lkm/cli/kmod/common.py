# SPDX-License-Identifier: MIT
"""What the classic tools have in common: four options, the version, how a command line is gone through."""

from __future__ import annotations

from lkm import __version__
from lkm.cli.kmod import log
from lkm.cli.kmod.options import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COMMON_HELP",
    "COMMON_LONG",
    "COMMON_SHORT",
    "COMPATIBLE",
    "CommandLine",
    "print_version",
    "read_options",
]

COMPATIBLE = 34
"""The release of kmod whose behaviour this is."""

COMMON_SHORT = "svVh"
COMMON_LONG = {"syslog": "s", "verbose": "v", "version": "V", "help": "h"}
COMMON_HELP = """\
	-s, --syslog      messages to syslog, not to stderr
	-v, --verbose     more messages
	-V, --version     print the version
	-h, --help        print this help
"""


class CommandLine:
    """A command line, read: `options` are (key, value) in order, without those that all tools have."""

    def __init__(
        self, options: list[tuple[str, str]], operands: list[str], *, verbose: int, syslog: bool
    ) -> None:
        self.options, self.operands = options, operands
        self.verbose, self.syslog = verbose, syslog

    def has(self, key: str) -> bool:
        """Whether the option was given."""
        return any(found == key for found, _ in self.options)

    def value(self, key: str, default: str = "") -> str:
        """The value that the option was given last."""
        return next((value for found, value in reversed(self.options) if found == key), default)


def read_options(
    argv: list[str], short: str, long: Mapping[str, str], own: Mapping[str, str], *, usage: str
) -> CommandLine | None:
    """The command line; None if --help or --version was answered, which is done where it stands.

    `usage` is the help text with %s for the tool's name. OptionError as from `Arguments`.
    """
    arguments = Arguments(argv, short, long, own)
    options, verbose, syslog = [], 0, False
    for key, value in arguments:
        if key == "h":
            log.write(usage.replace("%s", log.program()))
            return None
        if key == "V":
            print_version()
            return None
        if key == "v":
            verbose += 1
        elif key == "s":
            syslog = True
        else:
            options.append((key, value))
    return CommandLine(options, arguments.operands, verbose=verbose, syslog=syslog)


def print_version() -> None:
    """The version, so that scripts which look for kmod's can read it: the release, and what is understood."""
    from lkm.formats.zstd import is_available

    features = " ".join(("+" if there else "-") + name for name, there in _features(zstd=is_available()))
    log.write(f"kmod version {COMPATIBLE} (lkm {__version__})\n{features}\n")


def _features(*, zstd: bool) -> list[tuple[str, bool]]:
    from importlib.util import find_spec

    there = {name: find_spec(name) is not None for name in ("_lzma", "zlib")}
    return [("ZSTD", zstd), ("XZ", there["_lzma"]), ("ZLIB", there["zlib"]), ("LIBCRYPTO", True)]
