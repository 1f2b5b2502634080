# SPDX-License-Identifier: MIT
"""static-nodes: the device nodes of modules that are loaded when somebody opens them, from modules.devname."""

from __future__ import annotations

import os
import re
import stat

from lkm.cli.kmod import log
from lkm.cli.kmod.common import read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HELP", "LONG", "OWN", "SCHEMA", "SHORT", "run"]

SCHEMA = "lkm.static-nodes/1"
SHORT = "o:f:h"
LONG = {"output=": "o", "format=": "f", "help": "h"}
OWN = {"json": "json"}
HELP = f"""\
Usage:
	kmod static-nodes [options]
Prints the device nodes by which modules of this kernel are loaded on demand.
Options:
	-f, --format=FORMAT  one of those below
	-o, --output=FILE    write to FILE
	-h, --help           print this help
	    --json           one JSON object, schema {SCHEMA}
Formats:
	human        for reading (default)
	tmpfiles     lines of tmpfiles.d(5), for systemd-tmpfiles
	devname      as modules.devname has them
"""

# A line, as kmod's "%s %s %c%u:%u" takes it.
_LINE = re.compile(rb"\s*(\S+)\s+(\S+)\s+(\S)\s*([+-]?\d+):\s*([+-]?\d+)")


class _Node:
    """One node; `kind` is c or b."""

    def __init__(self, module: str, path: str, *, kind: str, major: int, minor: int) -> None:
        self.module, self.path = module, path
        self.kind, self.major, self.minor = kind, major, minor


def _human(node: _Node) -> str:
    kind = "character" if node.kind == "c" else "block"
    return (
        f"Module: {node.module}\n\tDevice node: /dev/{node.path}\n"
        f"\t\tType: {kind} device\n\t\tMajor: {node.major}\n\t\tMinor: {node.minor}\n"
    )


def _tmpfiles(node: _Node) -> str:
    folder, slash, _ = node.path.rpartition("/")
    made = f"d /dev/{folder} 0755 - - -\n" if slash else ""
    return f"{made}{node.kind}! /dev/{node.path} 0600 - - - {node.major}:{node.minor}\n"


def _devname(node: _Node) -> str:
    return f"{node.module} {node.path} {node.kind}{node.major}:{node.minor}\n"


_FORMATS: dict[str, Callable[[_Node], str]] = {"human": _human, "tmpfiles": _tmpfiles, "devname": _devname}


def run(argv: list[str]) -> int:
    """Print or write the nodes. 1: a line is none, or a file cannot be read or written."""
    line = read_options(argv, SHORT, LONG, OWN, usage=HELP)
    if line is None:
        return 0
    for key, value in line.options:
        if key == "f" and value not in _FORMATS:
            log.write_error(f"Unknown format: '{value}'.\n")
            log.write(HELP)
            return 1
    path = f"/lib/modules/{os.uname().release}/modules.devname"
    try:
        with open(path, "rb") as file:
            lines = file.readlines()
    except FileNotFoundError:
        log.write_error(f"Warning: {path} not found - ignoring\n")
        return 0
    except OSError as error:
        log.write_error(f"Error: could not open {path} - {error.strerror}\n")
        return 1
    nodes, bad = _parse(lines)
    text = _as_json(nodes) if line.has("json") else "".join(map(_FORMATS[line.value("f", "human")], nodes))
    if not line.has("o"):
        log.write(text)
        return int(bad)
    return int(_write_file(line.value("o"), text.encode("utf-8", "surrogateescape")) or bad)


def _parse(lines: list[bytes]) -> tuple[list[_Node], bool]:
    """The nodes, and whether a line was none, which is said."""
    nodes, bad = [], False
    for line in lines:
        if line.startswith(b"#"):
            continue
        match = _LINE.match(line)
        if match is None or match[3] not in (b"c", b"b"):
            log.write_error(f"Error: invalid devname entry: {os.fsdecode(line)}")
            bad = True
            continue
        module, path, kind = map(os.fsdecode, match.group(1, 2, 3))
        major, minor = (int(number) & 0xFFFFFFFF for number in match.group(4, 5))
        nodes.append(_Node(module, path, kind=kind, major=major, minor=minor))
    return nodes, bad


def _as_json(nodes: list[_Node]) -> str:
    import json

    rows = [
        {"module": n.module, "path": n.path, "type": n.kind, "major": n.major, "minor": n.minor}
        for n in nodes
    ]
    return json.dumps({"schema": SCHEMA, "nodes": rows}, indent=1) + "\n"


def _write_file(path: str, data: bytes) -> bool:
    """Write the file whole or not at all, with the folders above it. Returns whether it failed, which is said."""
    folder, _, name = path.rpartition("/")
    folder = folder or ("/" if path.startswith("/") else ".")
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
    except OSError as error:
        log.write_error(f"Error: could not create parent directory for {path} - {error.strerror}.\n")
        return True
    try:
        if _is_special(path):
            with open(path, "wb") as file:
                file.write(data)
        else:
            _replace(folder, name, data)
    except OSError as error:
        log.write_error(f"Error: could not create {path} - {error.strerror}\n")
        return True
    return False


def _is_special(path: str) -> bool:
    """Whether it is a pipe or a device, which is written to and not replaced."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _replace(folder: str, name: str, data: bytes) -> None:
    scratch = f".{name}.{os.getpid()}"
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=top)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.rename(scratch, name, src_dir_fd=top, dst_dir_fd=top)
        except OSError:
            os.unlink(scratch, dir_fd=top)
            raise
    finally:
        os.close(top)
