# SPDX-License-Identifier: MIT
"""The helper: its bytes are its source's, it calls what it says, and the module made of it is one."""

from __future__ import annotations

import io
import struct

import capstone
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from lkm.errors import LkmError
from lkm.formats.module import THIS_MODULE, ModuleFile, parse_module
from lkm.rescue.assemble import HelperOutcome, assemble_helper, decode_answer, render_table
from lkm.rescue.helper import MACHINES, helper_code
from lkm.rescue.helper.rebuild import HERE, assemble_source, render_code
from lkm.rescue.plan import Edit, EditKind
from tests.builders import make_module
from tests.snapshots import SYMBOLS

EDITS = (
    Edit("name", 0xFFFFFFFFC0001018, 8, 0x78, 0x78, EditKind.CHECK),
    Edit("init", 0xFFFFFFFFC0001100, 8, 0xFFFFFFFFC0002000, 0, EditKind.STORE),
    Edit("refcnt", 0xFFFFFFFFC0001200, 4, 0xFFFFFFFE, 1, EditKind.CMPXCHG),
)


@pytest.fixture
def sibling() -> ModuleFile:
    return parse_module(make_module(versions={"module_layout": 0x12345678, "_printk": 1}), name="sibling.ko")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_bytes_are_those_of_the_source(machine: str) -> None:
    with open(f"{HERE}/{machine}.py", encoding="utf-8") as stream:
        committed = stream.read()
    assert render_code(assemble_source(machine), machine) == committed


def instructions() -> list[capstone.CsInsn]:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return list(engine.disasm(helper_code("x86_64").text, 0))


def test_it_disassembles_without_a_gap() -> None:
    code = helper_code("x86_64")
    assert sum(instruction.size for instruction in instructions()) == len(code.text)


def test_it_begins_with_a_landing_pad() -> None:
    assert instructions()[0].mnemonic == "endbr64"


def test_it_calls_directly_and_jumps_within_itself() -> None:
    size = len(helper_code("x86_64").text)
    relocated = {item.offset for item in helper_code("x86_64").relocations}
    for instruction in instructions():
        if instruction.mnemonic == "call" or instruction.mnemonic.startswith("j"):
            assert instruction.op_str.startswith("0x"), f"indirect: {instruction}"
            if instruction.address + 1 not in relocated:
                assert 0 <= int(instruction.op_str, 16) < size


def test_it_writes_to_the_kernel_in_one_instruction_only() -> None:
    """Everything else goes through copy_to_kernel_nofault; plain stores are to its own stack."""
    stores = [
        f"{instruction.mnemonic} {instruction.op_str}"
        for instruction in instructions()
        if instruction.op_str.startswith(("qword ptr [", "dword ptr [")) and instruction.mnemonic != "cmp"
    ]
    assert stores == ["mov qword ptr [rdi], 0", "lock cmpxchg dword ptr [rdi], ecx"]


def test_every_call_out_of_it_is_one_that_is_documented() -> None:
    called = {item.symbol for item in helper_code("x86_64").relocations}
    assert called == {".data", *SYMBOLS} - {"module_mutex"}


def test_no_helper_for_an_unknown_machine() -> None:
    with pytest.raises(LkmError, match="riscv64"):
        helper_code("riscv64")


def test_the_table_is_laid_out_as_the_source_says() -> None:
    table = render_table(EDITS, 0xFFFFFFFF82000000)
    assert struct.unpack_from("<QII", table) == (0xFFFFFFFF82000000, 3, 0)
    assert len(table) == 16 + 3 * 32
    assert struct.unpack_from("<QQQII", table, 16 + 64) == (0xFFFFFFFFC0001200, 0xFFFFFFFE, 1, 4, 2)


def test_too_many_edits_are_refused() -> None:
    with pytest.raises(LkmError, match="256 edits"):
        render_table(EDITS[:1] * 256, 0)


@pytest.mark.parametrize(
    ("errno", "outcome", "edit"),
    [
        (2400, HelperOutcome.WRITTEN, None),
        (125, HelperOutcome.NOT_RUN, None),
        (1024, HelperOutcome.MUTEX_HELD, None),
        (1280, HelperOutcome.DIFFERS, 0),
        (1283, HelperOutcome.DIFFERS, 3),
        (1536 + 255, HelperOutcome.UNREADABLE, 255),
        (1792 + 2, HelperOutcome.UNWRITABLE, 2),
        (2048 + 1, HelperOutcome.CHANGED, 1),
        (8, HelperOutcome.NOT_RUN, None),
        (129, HelperOutcome.NOT_RUN, None),
        (0, HelperOutcome.NOT_RUN, None),
    ],
)
def test_the_answers_are_read_as_the_source_gives_them(
    errno: int, outcome: HelperOutcome, edit: int | None
) -> None:
    assert decode_answer(errno) == (outcome, edit)


def test_the_module_is_one_for_the_siblings_kernel(sibling: ModuleFile) -> None:
    image = assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=SYMBOLS, name="lkm_helper_1")
    helper = parse_module(image, name="helper.ko")
    assert helper.name == "lkm_helper_1"
    assert helper.vermagic == sibling.vermagic
    assert helper.this_module.size == sibling.this_module.size
    assert helper.this_module.init_offset == sibling.this_module.init_offset
    assert helper.this_module.exit_offset is None
    assert helper.modinfo.get("license") == "GPL"
    assert not helper.intree
    assert helper.imports == ()


def test_only_the_layouts_crc_is_claimed(sibling: ModuleFile) -> None:
    image = assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=SYMBOLS, name="h")
    assert [v.name for v in parse_module(image, name="h").versions or ()] == ["module_layout"]


def test_kernel_functions_are_absolute_symbols(sibling: ModuleFile) -> None:
    image = assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=SYMBOLS, name="h")
    elf = ELFFile(io.BytesIO(image))
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    values = {s["st_value"] for s in table.iter_symbols() if s["st_shndx"] == "SHN_ABS"}
    assert values == {value for name, value in SYMBOLS.items() if name != "module_mutex"}
    sections = [s for s in elf.iter_sections() if isinstance(s, RelocationSection)]
    assert {s.name for s in sections} == {".rela.text", f".rela{THIS_MODULE}"}


def test_the_same_plan_gives_the_same_bytes(sibling: ModuleFile) -> None:
    first, second = (
        assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=SYMBOLS, name="h") for _ in range(2)
    )
    assert first == second


def test_a_hidden_function_is_named(sibling: ModuleFile) -> None:
    hidden = {**SYMBOLS, "mutex_unlock": 0}
    with pytest.raises(LkmError, match="mutex_unlock"):
        assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=hidden, name="h")


def test_without_module_mutex_the_table_says_none(sibling: ModuleFile) -> None:
    symbols = {name: value for name, value in SYMBOLS.items() if name != "module_mutex"}
    image = assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=symbols, name="h")
    data = parse_module(image, name="h").elf.section(".data")
    assert data is not None
    assert bytes(data.data[:8]) == bytes(8)


def test_a_name_that_does_not_fit_is_refused(sibling: ModuleFile) -> None:
    with pytest.raises(LkmError, match="longer"):
        assemble_helper(helper_code("x86_64"), sibling, EDITS, symbols=SYMBOLS, name="h" * 56)
