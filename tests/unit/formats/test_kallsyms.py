# SPDX-License-Identifier: MIT
"""/proc/kallsyms: names, addresses, and what is hidden."""

from __future__ import annotations

import pytest

from lkm.formats.kallsyms import Kallsyms, Symbol

TEXT = (
    b"0000000000000000 A fixed_percpu_data\n"
    b"ffffffff81000000 T _text\n"
    b"ffffffff81000100 t twice\n"
    b"ffffffff81000200 t twice\n"
    b"ffffffff82000000 D modules\n"
    b"ffffffffc0002000 t demo_exit\t[demo]\n"
    b"ffffffffc0001000 t demo_init\t[demo]\n"
    b"ffffffffc0001004 t $x\t[demo]\n"
    b"ffffffffc0003000 t modules\t[other]\n"
    b"ffffffffc0009000 t tramp\t[__builtin__ftrace]\n"
)


def test_names_are_those_of_the_kernel_itself() -> None:
    symbols = Kallsyms(TEXT)
    assert symbols.address("modules") == 0xFFFFFFFF82000000
    assert symbols.address("twice") == 0xFFFFFFFF81000100
    assert symbols.address("demo_init") == 0
    assert symbols.address("odules") == 0
    assert symbols.address("fixed_percpu_data") == 0


def test_variables_are_found_by_the_ends_of_their_names_and_end_where_the_next_begins() -> None:
    text = (
        b"ffffffff81000000 T register_cpu_chain\n"
        b"ffffffff82000000 r __ksymtab_cpu_chain\n"
        b"ffffffff83000000 d cpu_chain\n"
        b"ffffffff83000000 D the_same\n"
        b"ffffffff83000008 b other\n"
        b"ffffffff84000000 B last_chain\n"
        b"ffffffffc0002000 d demo_chain\t[demo]\n"
    )
    assert Kallsyms(text).variables_ending(["_chain", "u_chain"]) == [
        (0xFFFFFFFF83000000, 0xFFFFFFFF83000008, "cpu_chain"),
        (0xFFFFFFFF84000000, 0xFFFFFFFF84100000, "last_chain"),
    ]
    assert Kallsyms(text[:-1]).variables_ending(["r"]) == [(0xFFFFFFFF83000008, 0xFFFFFFFF84000000, "other")]


def test_a_variable_is_one_by_its_address_where_its_letter_is_that_of_code() -> None:
    """So it is on 6.18."""
    text = (
        b"ffffffff81000000 T register_cpu_chain\n"
        b"ffffffff83000000 T _sdata\n"
        b"ffffffff83000008 t cpu_chain\n"
        b"ffffffff83000010 T _edata\n"
        b"ffffffff84000000 T init_cpu_chain\n"
        b"ffffffffc0002000 t cpu_chain\t[demo]\n"
    )
    symbols = Kallsyms(text)
    assert symbols.variables_ending(["_chain"]) == [(0xFFFFFFFF83000008, 0xFFFFFFFF83000010, "cpu_chain")]
    assert [(kind, module) for _, kind, module in symbols.named("cpu_chain")] == [("d", ""), ("t", "demo")]


def test_module_symbols_are_sorted_and_without_mapping_symbols() -> None:
    found = [(0xFFFFFFFFC0001000, "demo_init"), (0xFFFFFFFFC0002000, "demo_exit")]
    assert Kallsyms(TEXT).module_symbols("demo") == found
    assert Kallsyms(TEXT).module_symbols("dem") == []
    assert Kallsyms(b"").module_symbols("demo") == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFFFFFFF81000000, Symbol("_text", 0, "")),
        (0xFFFFFFFF810001FF, Symbol("twice", 0xFF, "")),
        (0xFFFFFFFF82000008, Symbol("modules", 8, "")),
        (0xFFFFFFFFC0001010, Symbol("demo_init", 0x10, "demo")),
        (0xFFFFFFFFC0002000, Symbol("demo_exit", 0, "demo")),
        (0xFFFFFFFFD0000000, None),
        (0xFFFF888000000000, None),
        (0xFF, Symbol("fixed_percpu_data", 0xFF, "")),
    ],
)
def test_an_address_belongs_to_the_symbol_before_it(address: int, expected: Symbol | None) -> None:
    assert Kallsyms(TEXT).nearest(address) == expected


def test_every_line_is_found_by_its_own_address() -> None:
    lines = [f"ffffffff81{index:06x} T f{index}" for index in range(0, 2000, 7)]
    symbols = Kallsyms("".join(f"{line}\n" for line in lines).encode())
    for index in range(0, 2000, 7):
        found = symbols.nearest(0xFFFFFFFF81000000 + index)
        assert found == Symbol(f"f{index}", 0, "")


def test_a_known_module_is_looked_at_alone() -> None:
    symbols = Kallsyms(TEXT)
    assert symbols.nearest(0xFFFFFFFFC0003004, "demo") == Symbol("demo_exit", 0x1004, "demo")
    assert symbols.nearest(0xFFFFFFFFC0003004, "absent") is None


def test_a_symbol_is_written_as_the_kernel_does() -> None:
    assert str(Symbol("f", 16, "demo")) == "f+0x10 [demo]"
    assert str(Symbol("f", 0, "")) == "f"


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"garbage", b"xyz T name\n", b"ffffffff81000000\n", b"\xff\xfe T \xff\n"]
)
def test_corrupt_text_names_nothing(text: bytes) -> None:
    symbols = Kallsyms(text)
    assert symbols.address("name") == 0
    assert symbols.nearest(0xFFFFFFFF81000000) is None


def test_hidden_addresses_are_all_zero() -> None:
    assert Kallsyms(b"0000000000000000 T _text\n0000000000000000 t f\t[demo]\n").hidden
    assert not Kallsyms(TEXT).hidden
    assert not Kallsyms(b"").hidden
