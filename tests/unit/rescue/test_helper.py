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

from lkm.diagnosis.findings import Verdict
from lkm.errors import LkmError
from lkm.formats.elfwriter import NewSection
from lkm.formats.module import THIS_MODULE, ModuleFile, parse_module
from lkm.rescue.assemble import assemble_helper
from lkm.rescue.complete import ACCESS
from lkm.rescue.helper import MACHINES, helper_code
from lkm.rescue.helper.rebuild import HERE, assemble_source, render_code
from lkm.rescue.plan import Argument, Call, Edit, EditKind, Lock, Step, StepKind
from lkm.rescue.table import HelperOutcome, decode_answer, operations, render_table
from tests.builders import make_module
from tests.snapshots import SYMBOLS, name

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


ENGINES = {
    "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
}


def instructions(machine: str) -> list[capstone.CsInsn]:
    engine = capstone.Cs(*ENGINES[machine])
    engine.detail = True
    return list(engine.disasm(helper_code(machine).text, 0))


@pytest.mark.parametrize("machine", MACHINES)
def test_it_disassembles_without_a_gap(machine: str) -> None:
    code = helper_code(machine)
    literals = sum(8 for item in code.relocations if item.type == code.pointer_relocation)
    assert sum(instruction.size for instruction in instructions(machine)) >= len(code.text) - literals


@pytest.mark.parametrize(("machine", "pad"), [("x86_64", "endbr64"), ("aarch64", "hint #0x22")])
def test_it_begins_with_a_landing_pad(machine: str, pad: str) -> None:
    first = instructions(machine)[0]
    assert f"{first.mnemonic} {first.op_str}".strip() in (pad, "bti c")


@pytest.mark.parametrize("machine", MACHINES)
def test_it_leaves_itself_by_returns_only(machine: str) -> None:
    """A branch by register would need a landing pad where it goes (IBT, BTI)."""
    size = len(helper_code(machine).text)
    for instruction in instructions(machine):
        groups = {instruction.group_name(group) for group in instruction.groups}
        if groups & {"jump", "call", "branch_relative"} and not instruction.mnemonic.startswith("ret"):
            target = instruction.op_str.split("#")[-1].split(" ")[-1]
            assert 0 <= int(target, 16) < size, f"indirect, or out of it: {instruction}"


TAKEN_AND_GIVEN = ["stxr w3, w1, [x0]", "stlrb wzr, [x0]"]
"""The lock that it takes itself. A byte is given back: in the others may stand who waits."""

WRITES = {
    "x86_64": ["mov qword ptr [rdi], 0", "lock cmpxchg dword ptr [rdi], ecx"],
    "aarch64": [*TAKEN_AND_GIVEN, "str xzr, [x0]", "stlxr w7, w5, [x0]"],
}


@pytest.mark.parametrize("machine", MACHINES)
def test_it_writes_to_the_kernel_in_one_instruction_only_beside_the_lock(machine: str) -> None:
    """Everything else goes through copy_to_kernel_nofault; plain stores are to its own stack."""
    shown = [f"{instruction.mnemonic} {instruction.op_str}" for instruction in instructions(machine)]
    x86 = [
        text for text in shown if " ptr [" in text.split(",")[0] and not text.startswith(("cmp ", "push "))
    ]
    arm = [text for text in shown if text.startswith("st") and "[sp" not in text]
    assert (x86 if machine == "x86_64" else arm) == WRITES[machine]


@pytest.mark.parametrize("machine", MACHINES)
def test_only_its_table_is_relocated(machine: str) -> None:
    assert {item.symbol for item in helper_code(machine).relocations} == {".data"}


def test_no_helper_for_an_unknown_machine() -> None:
    with pytest.raises(LkmError, match="riscv64"):
        helper_code("riscv64")


def make_step(
    edits: tuple[Edit, ...] = EDITS,
    lock: Lock = Lock.MODULE_MUTEX,
    before: tuple[Call, ...] = (),
    after: tuple[Call, ...] = (),
) -> Step:
    return Step(
        name("x"), 0xFFFFFFFFC0001000, (), Verdict.SAFE, "", "", exit_runs=False, edits=edits,
        kind=StepKind.REMOVE, lock=lock, before=before, after=after,
    )  # fmt: skip


RENAME = Call(
    "kobject_rename", 0xFFFFFFFF81000100, (Argument(0xFFFFFFFFC0001050), Argument(text="x.dead1")), True
)
WAKE = Call("complete", 0xFFFFFFFF81000200, (Argument(0xFFFFC90000001018),))


def test_the_table_is_laid_out_as_its_text_says() -> None:
    table = render_table(make_step(), SYMBOLS)
    functions = ("mutex_trylock", "module_mutex", "mutex_unlock", *ACCESS)
    assert struct.unpack_from("<5QII", table.data) == (*(SYMBOLS[item] for item in functions), 3, 0)
    assert len(table.data) == 48 + 3 * 32
    assert struct.unpack_from("<QQQII", table.data, 48 + 64) == (0xFFFFFFFFC0001200, 0xFFFFFFFE, 1, 4, 2)
    assert not table.pointers


def test_calls_stand_around_the_writes_with_their_arguments_behind_all() -> None:
    step = make_step(before=(RENAME,), after=(WAKE,))
    assert [getattr(item, "field", "") or item[0] for item in operations(step)] == [
        "name", "kobject_rename", "init", "refcnt", "complete",
    ]  # fmt: skip
    table = render_table(step, SYMBOLS)
    rename, wake = (struct.unpack_from("<QQQII", table.data, 48 + 32 * index) for index in (1, 4))
    assert rename == (RENAME.address, 48 + 32 * 5, 0, 0, 4)
    assert wake == (WAKE.address, rename[1] + 48, 0, 0, 3)
    assert struct.unpack_from("<6Q", table.data, wake[1]) == (0xFFFFC90000001018, 0, 0, 0, 0, 0)
    assert table.pointers == {rename[1] + 8: wake[1] + 48}
    assert table.data[wake[1] + 48 :] == b"x.dead1\0"


def test_without_a_lock_nothing_is_taken() -> None:
    assert render_table(make_step(lock=Lock.NONE), SYMBOLS).data[:24] == bytes(24)


@pytest.mark.parametrize("lock", [Lock.IDEM_LOCK, Lock.IDEM_LOCK_INLINE])
def test_a_list_is_not_edited_without_its_lock(lock: Lock) -> None:
    with pytest.raises(LkmError, match="idem_lock"):
        render_table(make_step(lock=lock), SYMBOLS)


IDEM = {**SYMBOLS, "idem_lock": 0xFFFFFFFF82000000}


def test_a_lock_that_the_helper_takes_itself_has_no_functions() -> None:
    table = render_table(make_step(lock=Lock.IDEM_LOCK_INLINE), IDEM)
    assert struct.unpack_from("<3Q", table.data) == (0, IDEM["idem_lock"], 0)


def test_only_a_helper_that_can_takes_a_lock_itself(sibling: ModuleFile) -> None:
    """The other would go on without it."""
    step = make_step(lock=Lock.IDEM_LOCK_INLINE)
    assert assemble_helper(helper_code("aarch64"), sibling, step, symbols=IDEM, name="h")
    with pytest.raises(LkmError, match="idem_lock"):
        assemble_helper(helper_code("x86_64"), sibling, step, symbols=IDEM, name="h")


def test_interrupts_are_masked_before_the_lock_is_taken_and_as_they_were_after_it() -> None:
    shown = [f"{instruction.mnemonic} {instruction.op_str}" for instruction in instructions("aarch64")]
    order = ["mrs x24, daif", "msr daifset, #3", "ldaxr w2, [x0]", *TAKEN_AND_GIVEN, "msr daif, x24"]
    assert [text for text in shown if text in order] == order


def test_too_many_edits_are_refused() -> None:
    with pytest.raises(LkmError, match="256 edits"):
        render_table(make_step(EDITS[:1] * 256), SYMBOLS)


@pytest.mark.parametrize(
    ("errno", "outcome", "edit"),
    [
        (2400, HelperOutcome.WRITTEN, None),
        (125, HelperOutcome.NOT_RUN, None),
        (1024, HelperOutcome.LOCK_HELD, None),
        (1280, HelperOutcome.DIFFERS, 0),
        (1283, HelperOutcome.DIFFERS, 3),
        (1536 + 255, HelperOutcome.UNREADABLE, 255),
        (1792 + 2, HelperOutcome.UNWRITABLE, 2),
        (2048 + 1, HelperOutcome.CHANGED, 1),
        (2560 + 4, HelperOutcome.CALL_FAILED, 4),
        (2816 + 255, HelperOutcome.NOT_UNDONE, 255),
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
    image = assemble_helper(helper_code("x86_64"), sibling, make_step(), symbols=SYMBOLS, name="lkm_helper_1")
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
    image = assemble_helper(helper_code("x86_64"), sibling, make_step(), symbols=SYMBOLS, name="h")
    assert [v.name for v in parse_module(image, name="h").versions or ()] == ["module_layout"]


@pytest.mark.parametrize("machine", MACHINES)
def test_it_names_no_kernel_symbol(sibling: ModuleFile, machine: str) -> None:
    image = assemble_helper(helper_code(machine), sibling, make_step(), symbols=SYMBOLS, name="h")
    elf = ELFFile(io.BytesIO(image))
    table = elf.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    assert [s.name for s in table.iter_symbols() if s.name] == ["init_module"]
    sections = [s for s in elf.iter_sections() if isinstance(s, RelocationSection)]
    assert {s.name for s in sections} == {".rela.text", f".rela{THIS_MODULE}"}


def test_a_string_is_pointed_to(sibling: ModuleFile) -> None:
    step = make_step(before=(RENAME,))
    image = assemble_helper(helper_code("aarch64"), sibling, step, symbols=SYMBOLS, name="h")
    relocations = ELFFile(io.BytesIO(image)).get_section_by_name(".rela.data")
    assert isinstance(relocations, RelocationSection)
    (entry,) = relocations.iter_relocations()
    table = render_table(step, SYMBOLS)
    assert {entry["r_offset"]: entry["r_addend"]} == table.pointers
    assert entry["r_info_type"] == 257


ARM64_SECTIONS = (".plt", ".init.plt", ".text.ftrace_trampoline", ".init.text.ftrace_trampoline")


@pytest.mark.parametrize("present", [ARM64_SECTIONS[:count] for count in (0, 2, 3, 4)])
def test_sections_of_the_architecture_are_those_of_its_modules(present: tuple[str, ...]) -> None:
    data = make_module(
        versions={"module_layout": 1}, machine=183, extra=[NewSection(one, b"\0") for one in present]
    )
    sibling = parse_module(data, name="sibling.ko")
    image = assemble_helper(helper_code("aarch64"), sibling, make_step(), symbols=SYMBOLS, name="h")
    elf = ELFFile(io.BytesIO(image))
    assert tuple(one for one in ARM64_SECTIONS if elf.get_section_by_name(one)) == present


def test_the_same_plan_gives_the_same_bytes(sibling: ModuleFile) -> None:
    first, second = (
        assemble_helper(helper_code("x86_64"), sibling, make_step(), symbols=SYMBOLS, name="h")
        for _ in range(2)
    )
    assert first == second


def test_a_hidden_function_is_named(sibling: ModuleFile) -> None:
    hidden = {**SYMBOLS, "mutex_unlock": 0}
    with pytest.raises(LkmError, match="mutex_unlock"):
        assemble_helper(helper_code("x86_64"), sibling, make_step(), symbols=hidden, name="h")


def test_without_module_mutex_the_table_says_none(sibling: ModuleFile) -> None:
    symbols = {name: value for name, value in SYMBOLS.items() if name != "module_mutex"}
    image = assemble_helper(helper_code("x86_64"), sibling, make_step(), symbols=symbols, name="h")
    data = parse_module(image, name="h").elf.section(".data")
    assert data is not None
    assert bytes(data.data[:8]) == bytes(8)


def test_a_name_that_does_not_fit_is_refused(sibling: ModuleFile) -> None:
    with pytest.raises(LkmError, match="longer"):
        assemble_helper(helper_code("x86_64"), sibling, make_step(), symbols=SYMBOLS, name="h" * 56)
