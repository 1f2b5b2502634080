# SPDX-License-Identifier: MIT
"""The symbols in an image are found in each layout that kernels have had, without being told where."""

from __future__ import annotations

import struct
import time

import pytest

from lkm.formats.image_kallsyms import ImageSymbolsError, find_symbols
from lkm.formats.kernel_image import parse_kernel_image
from tests.kernel_images import BASE, LAYOUTS, MadeSymbol, make_arm64, make_elf, make_kallsyms, make_symbols

HEAD = 0x3000


def image_of(symbols: list[MadeSymbol], layout: str, *, percpu: bool = False) -> bytes:
    noise = bytes(range(256)) * (HEAD // 256)
    return noise + make_kallsyms(symbols, layout, address=BASE + HEAD, percpu=percpu) + noise


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_symbol_of_each_layout(layout: str) -> None:
    symbols = make_symbols(variables=True)
    image = parse_kernel_image(make_elf(image_of(symbols, layout)))
    assert [tuple(each) for each in find_symbols(image)] == [tuple(each) for each in symbols]


@pytest.mark.parametrize("layout", ["up to 6.1", "6.2", "since 6.4"])
def test_variables_of_each_processor_keep_their_small_addresses(layout: str) -> None:
    symbols = [MadeSymbol(8 * number, "A", f"cpu_{number}") for number in range(20)]
    symbols += make_symbols(variables=False)
    image = parse_kernel_image(make_elf(image_of(symbols, layout, percpu=True)))
    assert [tuple(each) for each in find_symbols(image)] == [tuple(each) for each in symbols]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_name_of_more_than_127_letters(layout: str) -> None:
    symbols = make_symbols(variables=False)
    symbols[300] = symbols[300]._replace(name="_ZN4core" * 40)
    image = parse_kernel_image(make_elf(image_of(symbols, layout)))
    assert find_symbols(image)[300].name == "_ZN4core" * 40


def test_a_flat_image_counts_from_its_start() -> None:
    symbols = make_symbols(variables=False)
    image = parse_kernel_image(make_arm64(image_of(symbols, "since 6.4")))
    found = find_symbols(image)
    assert [each.name for each in found] == [each.name for each in symbols]
    assert found[0].address == symbols[0].address - BASE + BASE % (1 << 21)


@pytest.mark.parametrize("damage", ["tokens", "names", "count"])
def test_an_image_without_them(damage: str) -> None:
    data = image_of(make_symbols(variables=False), "since 6.4")
    if damage == "tokens":
        data = data.replace(b"0\x001\x002\x003\x00", b"0\x001\x002\x00\x33\x33")
    elif damage == "names":
        data = data[: HEAD + 8] + bytes(40) + data[HEAD + 48 :]
    else:
        data = data[:HEAD] + bytes(8) + data[HEAD + 8 :]
    with pytest.raises(ImageSymbolsError, match="no kallsyms"):
        find_symbols(parse_kernel_image(make_elf(data)))


def test_addresses_that_do_not_ascend_are_an_unknown_layout() -> None:
    symbols = list(reversed(make_symbols(variables=False)))
    with pytest.raises(ImageSymbolsError, match="not known"):
        find_symbols(parse_kernel_image(make_elf(image_of(symbols, "since 6.4"))))


def test_many_token_tables_take_no_long_time() -> None:
    tokens = [b"%c" % code if code in b"0123456789" else b"x" for code in range(256)]
    places = [sum(len(token) + 1 for token in tokens[:number]) for number in range(256)]
    one = b"\0".join(tokens) + b"\0" + struct.pack("<256H", *places) + bytes(8)
    image = parse_kernel_image(make_elf(bytes(1 << 20) + one * 300))
    started = time.process_time()
    with pytest.raises(ImageSymbolsError, match="no kallsyms"):
        find_symbols(image)
    assert time.process_time() - started < 4
