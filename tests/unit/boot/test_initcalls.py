# SPDX-License-Identifier: MIT
"""Initcalls out of names, out of tables alone, and out of files below a root: level, order, function, module."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lkm.boot.image import _with_function as with_function
from lkm.boot.image import initcalls_of_image, initcalls_of_tables
from lkm.boot.initcall import LEVELS, Initcall, Level, parse_level
from lkm.boot.modules_of import with_modules
from lkm.boot.source import read_image_initcalls, read_initcalls
from lkm.boot.symbols import BootSymbol, initcalls_of_symbols
from lkm.errors import LkmError
from lkm.formats.image_kallsyms import find_symbols
from lkm.formats.kernel_image import KernelImageError, parse_kernel_image
from lkm.root import Root
from tests.kernel_images import (
    BASE,
    FUNCTIONS,
    LAYOUTS,
    TABLE,
    MadeSymbol,
    function,
    make_arm64,
    make_elf,
    make_kallsyms,
    make_kernel,
    make_relocations,
    make_symbols,
)  # fmt: skip

SHORT = [
    BootSymbol(0x10, "T", "init_elf_binfmt"),
    BootSymbol(0x20, "t", "init_zero"),
    BootSymbol(0x30, "t", "con_init"),
    BootSymbol(0x40, "t", "init"),
    BootSymbol(0x50, "t", "init"),
    BootSymbol(0x100, "d", "__start_lsm_info"),
    BootSymbol(0x100, "d", "__lsm_selinux"),
    BootSymbol(0x130, "d", "__early_lsm_lockdown"),
    BootSymbol(0x200, "D", "__initcall_start"),
    BootSymbol(0x200, "d", "__initcall_initearly"),
    BootSymbol(0x204, "D", "__initcall0_start"),
    BootSymbol(0x204, "d", "__initcall_init_zero0"),
    BootSymbol(0x208, "d", "__initcall_init_elf_binfmt1"),
    BootSymbol(0x20C, "d", "__initcall_pci_apply_final_quirks5s"),
    BootSymbol(0x210, "d", "__initcall_populate_rootfsrootfs"),
    BootSymbol(0x214, "d", "__initcall_init6"),
    BootSymbol(0x218, "D", "__initcall_end"),
    BootSymbol(0x218, "d", "__initcall_con_init"),
    BootSymbol(0x21C, "d", "str__initcall__trace_system_name"),
]
"""As a kernel 5.10 has them."""


def rows(calls: list[Initcall]) -> list[tuple[str, int, str]]:
    return [(call.level_text, call.order, call.function) for call in calls]


def test_names_up_to_5_10() -> None:
    calls = initcalls_of_symbols(SHORT)
    assert rows(calls) == [
        ("early-security", 1, ""),
        ("console", 1, "con_init"),
        ("security", 1, ""),
        ("early", 1, "init"),
        ("pure", 2, "init_zero"),
        ("core", 3, "init_elf_binfmt"),
        ("fs s", 4, "pci_apply_final_quirks"),
        ("rootfs", 5, "populate_rootfs"),
        ("device", 6, "init"),
    ]
    assert [call.module for call in calls if call.level is Level.SECURITY] == ["selinux"]
    by_name = {call.function: call for call in calls}
    assert (by_name["init_elf_binfmt"].address, by_name["init_elf_binfmt"].entry) == (0x10, 0x208)
    assert by_name["init"].address is None  # two have that name


def test_names_since_5_11() -> None:
    calls = initcalls_of_symbols(
        [
            BootSymbol(8, "d", "__initcall__kmod_binfmt_elf__407_2387_init_elf_binfmt1"),
            BootSymbol(12, "d", "__initcall__kmod_a__b__3_7_kfunc_init7s"),
            BootSymbol(16, "d", "__initcall__kmod_8250__293_687_univ8250_console_initcon"),
            BootSymbol(20, "d", "__lsm_LANDLOCK_NAME"),
        ]
    )
    found = {call.module: call for call in calls}
    elf = found["binfmt_elf"]
    assert (elf.level, elf.function, elf.line) == (Level.CORE, "init_elf_binfmt", 2387)
    assert elf.module_from == "symbol"
    assert (found["a__b"].level, found["a__b"].sync, found["a__b"].line) == (Level.LATE, True, 7)
    assert found["8250"].level is Level.CONSOLE
    assert found["landlock"].level is Level.SECURITY


def test_hidden_addresses_leave_the_order() -> None:
    calls = initcalls_of_symbols(symbol._replace(address=0) for symbol in SHORT)
    assert rows(calls) == rows(initcalls_of_symbols(SHORT))
    assert {call.entry for call in calls} == {None}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_with_names(layout: str) -> None:
    calls = initcalls_of_image(parse_kernel_image(make_elf(make_kernel(layout=layout))))
    assert [(call.function, call.module) for call in calls if call.level is not Level.CONSOLE] == [
        (function(number), f"part{number}") for number in range(90)
    ]
    assert {call.function: call.address for call in calls}[function(42)] == FUNCTIONS + 16 * 42


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tables_alone_say_the_same(layout: str) -> None:
    named = initcalls_of_image(parse_kernel_image(make_elf(make_kernel(layout=layout))))
    bare = initcalls_of_image(parse_kernel_image(make_elf(make_kernel(layout=layout, variables=False))))
    assert [call._replace(module="", module_from="", line=0, sync=None) for call in named] == bare
    assert len(bare) == 100


def test_a_relocated_arm64_image() -> None:
    """Debian's 6.1: functions only, and pointers that wait for their relocations."""
    base = 0xFFFF800008000000
    shift = BASE - base
    symbols = [symbol._replace(address=symbol.address - shift) for symbol in make_symbols(variables=False)]
    kernel = bytearray(make_kernel(variables=False)[: TABLE + 0x1000])
    kernel[TABLE + 0x800 : TABLE + 0x848] = bytes(72)
    fields = [(TABLE + 0x800 + 8 * number, TABLE + 40 * (number + 1)) for number in range(9)]
    tables = make_kallsyms(symbols, "7.x", address=base + len(kernel))
    data = make_arm64(bytes(kernel) + tables + bytes(-len(tables) % 8) + bytes(0x4000))
    data += make_relocations(fields, base=base)
    calls = initcalls_of_image(parse_kernel_image(data))
    assert [call.function for call in calls] == [
        *(function(number) for number in range(90, 100)),
        *(function(number) for number in range(90)),
    ]
    assert calls[0].level is Level.CONSOLE
    assert calls[10].address == FUNCTIONS - shift


def test_a_flat_image_whose_pointers_count_from_elsewhere() -> None:
    """RELR: they are in place, and nothing says from where; a security module's function is one of them."""
    link = 0xFFFF800080000000
    kernel = bytearray(make_kernel(pointers=link)[: TABLE + 0x1000])
    place = TABLE + 0xA00
    struct.pack_into("<6Q", kernel, place, link + 0x7777, 0, 0, 0, link + 0x1000 + 16 * 3, 0)
    symbols = [each._replace(address=each.address - BASE) for each in make_symbols(variables=True)]
    symbols.append(MadeSymbol(place, "d", "__lsm_yama"))
    data = bytes(kernel) + make_kallsyms(symbols, "7.x", address=len(kernel))
    image = parse_kernel_image(make_arm64(data))
    calls = initcalls_of_image(image)
    assert [(call.module, call.function) for call in calls if call.level is Level.SECURITY] == [
        ("yama", function(3))
    ]
    assert len(calls) == 101


def test_an_image_without_the_table() -> None:
    kernel = bytearray(make_kernel(variables=False))
    kernel[TABLE + 0x800 : TABLE + 0x848] = bytes(72)
    image = parse_kernel_image(make_elf(bytes(kernel)), name="FILE")
    with pytest.raises(LkmError, match="FILE: no table of initcalls"):
        initcalls_of_tables(image, find_symbols(image))


def test_every_level_has_a_name_that_can_be_asked_for() -> None:
    assert {parse_level(level.value) for level in LEVELS} == {(level, None) for level in LEVELS}
    assert parse_level("5") == (Level.FS, None)
    assert parse_level("5s") == parse_level("fs_sync") == parse_level("fs_initcall_sync") == (Level.FS, True)
    assert parse_level("rootfs_initcall") == (Level.ROOTFS, None)
    with pytest.raises(ValueError, match="is no level"):
        parse_level("8")


@pytest.mark.parametrize(
    "text", ["early_sync", "console_sync", "security_sync", "rootfs_sync", "pure_sync", "0s"]
)
def test_levels_without_synchronous_initcalls(text: str) -> None:
    with pytest.raises(ValueError, match="has no synchronous initcalls"):
        parse_level(text)


def test_modules_are_concluded_from_names_in_their_order() -> None:
    calls = [
        Initcall(Level.CORE, 1, "init_elf_binfmt"),
        Initcall(Level.DEVICE, 2, "ipv6_offload_init"),
        Initcall(Level.DEVICE, 3, "ext4_init_fs"),
        Initcall(Level.DEVICE, 4, "jbd2_journal_init", module="jbd2", module_from="symbol"),
        Initcall(Level.DEVICE, 5, "dmi_id_init"),
        Initcall(Level.DEVICE, 6, "virtio_blk_init"),
        Initcall(Level.CONSOLE, 1, "8250_init"),
    ]
    made = with_modules(calls, ["binfmt_elf", "ext4", "dmi_sysfs", "virtio_blk", "8250"])
    assert [(call.module, call.module_from) for call in made] == [
        ("binfmt_elf", "name"),
        ("", ""),
        ("ext4", "name"),
        ("jbd2", "symbol"),
        ("", ""),
        ("virtio_blk", "name"),
        ("", ""),
    ]


def tree(top: Path, release: str = "6.1.0-test") -> Root:
    folder = top / "lib/modules" / release
    folder.mkdir(parents=True)
    (top / "boot").mkdir()
    (top / "proc").mkdir()
    (folder / "modules.builtin").write_text(
        "kernel/fs/binfmt_elf.ko\nkernel/fs/ext4/ext4.ko\n", encoding="utf-8"
    )
    return Root(str(top), release)


def kallsyms(symbols: list[BootSymbol]) -> str:
    return "".join(f"{symbol.address:016x} {symbol.type} {symbol.name}\n" for symbol in symbols)


def test_the_running_kernel_is_read_from_kallsyms(tmp_path: Path) -> None:
    root = tree(tmp_path)
    text = kallsyms(SHORT) + "ffffffffc0000000 d __initcall_of_a_module6\t[other]\n"
    (tmp_path / "proc/kallsyms").write_text(text, encoding="utf-8")
    found = read_initcalls(root)
    assert (found.release, found.source, len(found.initcalls)) == ("6.1.0-test", "/proc/kallsyms", 9)
    (elf,) = [call for call in found.initcalls if call.function == "init_elf_binfmt"]
    assert (elf.module, elf.module_from) == ("binfmt_elf", "name")


def test_an_image_is_read_where_kallsyms_has_functions_only(tmp_path: Path) -> None:
    root = tree(tmp_path)
    text = kallsyms([symbol for symbol in SHORT if symbol.type in "tT"])
    (tmp_path / "proc/kallsyms").write_text(text, encoding="utf-8")
    with pytest.raises(LkmError, match=r"CONFIG_KALLSYMS_ALL.*no image .*/boot/vmlinuz-6.1.0-test"):
        read_initcalls(root)
    path = tmp_path / "boot/vmlinuz-6.1.0-test"
    path.write_bytes(make_elf(make_kernel(variables=False)))
    found = read_initcalls(root)
    assert (found.source, len(found.initcalls)) == (str(path), 100)
    assert "functions only" in found.note


def test_an_image_says_its_own_release(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(make_elf(make_kernel() + b"Linux version 9.9-rc1 (somebody@somewhere)"))
    assert read_image_initcalls(Root("/", "6.1"), str(path)).release == "9.9-rc1"


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LkmError, match="cannot be read"):
        read_image_initcalls(Root("/", "6.1"), os.fspath(tmp_path / "nothing"))


def test_an_image_that_ends_within_its_table() -> None:
    image = parse_kernel_image(make_elf(make_kernel()))
    (entry,) = [call.entry for call in initcalls_of_image(image) if call.function == function(42)]
    assert entry is not None
    place = image.offset(entry)
    assert place is not None
    call = Initcall(Level.DEVICE, 1, "f", entry=entry)
    with pytest.raises(KernelImageError, match="ends within the initcall f"):
        with_function(call, image._replace(data=image.data[: place + 2]), {}, 0)
    security = call._replace(level=Level.SECURITY)
    with pytest.raises(KernelImageError, match="ends within the initcall f"):
        with_function(security, image._replace(data=image.data[: place + 13]), {}, 0)
