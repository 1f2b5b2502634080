# SPDX-License-Identifier: MIT
"""Makes `ARCH.py` from `ARCH.S`: `python -m lkm.rescue.helper.rebuild [ARCH …]`. For maintainers and tests.

Needs the GNU assembler for the architecture (Debian: binutils, binutils-aarch64-linux-gnu).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from lkm.errors import LkmError
from lkm.formats.elf import Elf, parse_elf
from lkm.rescue.helper import MACHINES

__all__ = ["assemble_source", "rebuild", "render_code"]

HERE = os.path.dirname(__file__)
ASSEMBLERS = {"x86_64": ("as", "--64"), "aarch64": ("aarch64-linux-gnu-as",)}


def assemble_source(machine: str) -> Elf:
    """The object made of `MACHINE.S`. LkmError if the assembler is missing or refuses it."""
    source = os.path.join(HERE, f"{machine}.S")
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "helper.o")
        command = [*ASSEMBLERS[machine], "-o", output, source]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise LkmError(f"no assembler {command[0]!r} for {machine}", remedy="install binutils") from error
        except subprocess.CalledProcessError as error:
            raise LkmError(f"{source}: {error.stderr.strip()}") from error
        with open(output, "rb") as stream:
            return parse_elf(stream.read(), name=output)


def render_code(elf: Elf, machine: str) -> str:
    """The text of `MACHINE.py` for an assembled source."""
    text = elf.section(".text")
    if text is None:
        raise LkmError(f"{machine}.S: it has no .text")
    start = next(symbol.value for symbol in elf.symbols if symbol.name == "init_module")
    if start != 0:
        raise LkmError(f"{machine}.S: init_module must come first, it is at {start:#x}")
    code = bytes(text.data).hex()
    rows = "\n".join(f'    "{code[at : at + 64]}"' for at in range(0, len(code), 64))
    relocations = "\n".join(
        f'    (0x{item.offset:X}, {item.type}, "{_symbol_name(elf, item.symbol)}", {item.addend}),'
        for item in elf.relocations(text)
    )
    return (
        "# SPDX-License-Identifier: GPL-2.0-or-later\n"
        f'"""Made from `{machine}.S` by `python -m lkm.rescue.helper.rebuild`; not to be edited."""\n\n'
        f"TEXT = bytes.fromhex(\n{rows}\n)\n\n"
        f"# offset, type, symbol, addend\nRELOCATIONS = [\n{relocations}\n]\n"
    )


def _symbol_name(elf: Elf, index: int) -> str:
    symbol = elf.symbols[index]
    return symbol.name or elf.sections[symbol.shndx].name


def rebuild(machine: str) -> str:
    """Write `MACHINE.py`; returns its path."""
    path = os.path.join(HERE, f"{machine}.py")
    text = render_code(assemble_source(machine), machine)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path


if __name__ == "__main__":
    for name in sys.argv[1:] or MACHINES:
        sys.stdout.write(f"{rebuild(name)}\n")
