# SPDX-License-Identifier: MIT
"""BTF: sizes, offsets and enumerators by name; what is missing is named."""

from __future__ import annotations

import re
import struct
import time

import pytest

from lkm.formats.btf import Btf, BtfError, BtfLookupError, Struct
from tests.builders import BtfBuilder


def small_kernel(byteorder: str = "little") -> bytes:
    """A `struct module` with what real ones have: nesting, anonymous members, arrays, typedefs."""
    btf = BtfBuilder(byteorder)
    number = btf.add_int("int", 4)
    char = btf.add_int("char", 1)
    pointer = btf.add_pointer()
    atomic = btf.add(8, "atomic_t", btf.add_struct("", 4, [("counter", number, 0)]))
    btf.add(7, "module")  # a forward declaration before the definition
    btf.add_struct("module", 0, [])
    kobject = btf.add_struct("kobject", 64, [("name", pointer, 0)])
    mkobj = btf.add_struct("module_kobject", 96, [("kobj", kobject, 0), ("mod", pointer, 512)])
    name = btf.add_array(btf.add(10, "", char), 56)
    names = btf.add_array(btf.add(8, "name_t", name), 2)
    inner = btf.add_struct("", 16, [("left", pointer, 0), ("right", pointer, 64)])
    either = btf.add_struct("", 16, [("pair", inner, 0), ("", inner, 0)], union=True)
    state = btf.add_enum("module_state", {"MODULE_STATE_LIVE": 0, "MODULE_STATE_COMING": 1})
    members = [("state", state, 0), ("name", name, 192), ("mkobj", mkobj, 640), ("", either, 1408)]
    members += [("refcnt", atomic, 1536), ("names", names, 1600), ("list", pointer, 2560)]
    btf.add_struct("module", 896, members)
    btf.add_struct("flags", 4, [("low", number, 3 << 24), ("high", number, 5 << 24 | 3)], bits=True)
    btf.add_enum("signs", {"MINUS": -1, "ONE": 1}, signed=True)
    btf.add_enum("wide", {"BIG": 1 << 40, "LESS": -2}, signed=True, size=8)
    btf.add_enum("unsigned", {"ALL": 0xFFFFFFFF})
    proto = btf.add(13, "", number, 0, number, vlen=1)
    btf.add(12, "do_init_module", proto)
    btf.add(15, ".data", 8, 1, 0, 8, vlen=1)
    btf.add(16, "double", 8)
    btf.add(17, "tag", number, 0xFFFFFFFF)
    btf.add(14, "variable", number, 1)
    return btf.build()


@pytest.fixture
def btf() -> Btf:
    return Btf(small_kernel(), name="vmlinux")


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_both_byte_orders(byteorder: str) -> None:
    btf = Btf(small_kernel(byteorder))
    assert btf.sizeof("module") == 896
    assert btf.offset("module", "refcnt") == 192


def test_struct_has_its_members_in_order(btf: Btf) -> None:
    module = btf.struct("module")
    assert (module.name, module.size, module.is_union) == ("module", 896, False)
    assert [member.name for member in module.members] == [
        "state", "name", "mkobj", "", "refcnt", "names", "list",
    ]  # fmt: skip
    assert module.members[4].bit_offset == 1536


@pytest.mark.parametrize(
    ("path", "offset", "size"),
    [
        ("state", 0, 4),
        ("name", 24, 56),
        ("mkobj", 80, 96),
        ("mkobj.kobj", 80, 64),
        ("mkobj.mod", 144, 8),
        ("mkobj.kobj.name", 80, 8),
        ("pair", 176, 16),
        ("pair.right", 184, 8),
        ("right", 184, 8),
        ("refcnt.counter", 192, 4),
        ("names", 200, 112),
        ("list", 320, 8),
    ],
)
def test_members_by_path(btf: Btf, path: str, offset: int, size: int) -> None:
    assert btf.offset("module", path) == offset
    assert btf.member_size("module", path) == size


def test_names_of_all_kinds_have_a_size(btf: Btf) -> None:
    sizes = {
        name: btf.sizeof(name) for name in ("int", "atomic_t", "module_state", "double", "wide", "name_t")
    }
    assert sizes == {"int": 4, "atomic_t": 4, "module_state": 4, "double": 8, "wide": 8, "name_t": 56}


def test_typedef_of_an_unnamed_struct_is_one(btf: Btf) -> None:
    assert btf.struct("atomic_t").members[0].name == "counter"
    assert btf.offset("atomic_t", "counter") == 0


def test_enumerators(btf: Btf) -> None:
    assert btf.enum("module_state") == {"MODULE_STATE_LIVE": 0, "MODULE_STATE_COMING": 1}
    assert btf.enum("signs") == {"MINUS": -1, "ONE": 1}
    assert btf.enum("wide") == {"BIG": 1 << 40, "LESS": -2}
    assert btf.enum("unsigned") == {"ALL": 0xFFFFFFFF}


def test_bit_fields_are_seen_and_have_no_offset(btf: Btf) -> None:
    low, high = btf.struct("flags").members
    assert (low.bit_offset, low.bit_size, high.bit_offset, high.bit_size) == (0, 3, 3, 5)
    with pytest.raises(BtfLookupError, match=r"flags\.high is a bit field"):
        btf.offset("flags", "high")


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("nope", "x", "vmlinux: the kernel has no struct nope"),
        ("", "x", "the kernel has no struct"),
        ("module", "nope", "vmlinux: module has no member nope"),
        ("module", "mkobj.nope", "module.mkobj has no member nope"),
        ("module", "list.next", "module.list is not a struct or union"),
        ("module", "", "module has no member"),
        ("name_t", "x", "name_t is not a struct"),
    ],
)
def test_what_is_missing_is_named(btf: Btf, name: str, path: str, message: str) -> None:
    with pytest.raises(BtfLookupError, match=re.escape(message)):
        btf.offset(name, path)


def test_lookup_error_is_one_of_both_trees(btf: Btf) -> None:
    with pytest.raises(LookupError):
        btf.enum("nope")
    with pytest.raises(BtfError):
        btf.sizeof("nope")


def test_declaration_alone_is_found_empty() -> None:
    btf = BtfBuilder()
    btf.add_struct("opaque", 0, [])
    assert Btf(btf.build()).struct("opaque") == Struct("opaque", 0, ())


def test_empty_file_has_no_types() -> None:
    with pytest.raises(BtfLookupError):
        Btf(BtfBuilder().build()).struct("module")


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (0, "<H", 0x1234, r"expected BTF \(magic eb9f\), found 3412"),
        (2, "<B", 2, "expected BTF version 1, found 2"),
        (4, "<I", 1 << 30, "types: expected"),
        (12, "<I", 1 << 30, "types: expected 1073741824 bytes at 24"),
        (12, "<I", 5, "expected a multiple of 4 bytes"),
        (20, "<I", 1 << 30, "strings: expected"),
        (16, "<I", 0, "split BTF"),
    ],
)
def test_lies_in_the_header(at: int, layout: str, value: int, message: str) -> None:
    data = bytearray(small_kernel())
    struct.pack_into(layout, data, at, value)
    with pytest.raises(BtfError, match=message):
        Btf(bytes(data))


def test_header_cut_off() -> None:
    with pytest.raises(BtfError, match="expected a BTF header of 24 bytes, found 3"):
        Btf(b"\x9f\xeb\1")


def test_longer_header_is_skipped() -> None:
    data = small_kernel()
    longer = data[:4] + struct.pack("<I", 32) + data[8:24] + bytes(8) + data[24:]
    assert Btf(longer).sizeof("module") == 896


def test_kind_that_is_not_known() -> None:
    btf = BtfBuilder()
    btf.add(20, "future")
    with pytest.raises(BtfError, match="type 1 is of kind 20"):
        Btf(btf.build()).struct("future")


def test_type_that_runs_over_the_end() -> None:
    btf = BtfBuilder()
    btf.add(4, "module", 8, vlen=3)
    with pytest.raises(BtfError, match="type 1 does not end with the type section"):
        Btf(btf.build()).struct("module")


def test_split_btf_is_refused_by_name() -> None:
    btf = BtfBuilder()
    btf.add_int("int", 4)
    data = btf.build()
    with pytest.raises(BtfError, match=r"x: split BTF, .*; read /sys/kernel/btf/vmlinux"):
        Btf(data[:20] + struct.pack("<I", 4) + data[24:-5] + b"abc\0", name="x")
    btf = BtfBuilder()
    btf.add_int("int", 4)
    btf.types[0:4] = struct.pack("<I", 5000)
    with pytest.raises(BtfError, match="split BTF"):
        Btf(btf.build()).struct("module")


def test_types_that_refer_to_themselves_end() -> None:
    btf = BtfBuilder()
    btf.add(8, "loop", 1)
    btf.add_struct("nest", 8, [("", 2, 0)])
    btf.add_struct("array", 8, [("a", 4, 0)])
    btf.add_array(4, 2)
    made = Btf(btf.build())
    with pytest.raises(BtfError, match="more than 32 deep"):
        made.sizeof("loop")
    with pytest.raises(BtfError, match="not a struct"):
        made.struct("loop")
    with pytest.raises(BtfLookupError, match="nest has no member x"):
        made.offset("nest", "x")
    with pytest.raises(BtfError, match="more than 32 deep"):
        made.member_size("array", "a")


def test_reference_beyond_the_types() -> None:
    btf = BtfBuilder()
    btf.add_struct("module", 8, [("a", 99, 0)])
    with pytest.raises(BtfError, match="type 99 of 1 is referred to"):
        Btf(btf.build()).member_size("module", "a")


def test_time_grows_as_the_types_do() -> None:
    def seconds(rows: int) -> float:
        btf = BtfBuilder()
        number = btf.add_int("int", 4)
        row = btf.types + struct.pack("<6I", 0, 4 << 24 | 1, 4, 0, number, 0)  # an int and a struct
        btf.types = row * rows
        btf.add_struct("module", 896, [("refcnt", number, 64)])
        data = btf.build()
        start = time.process_time()
        assert Btf(data).offset("module", "refcnt") == 8
        return time.process_time() - start

    few = min(seconds(6_000) for _ in range(3))
    many = min(seconds(60_000) for _ in range(3))
    assert many < 40 * few  # 10 times as many; 100 if each look-up went through all of them


def test_an_enumerator_of_any_enum(btf: Btf) -> None:
    assert (btf.enumerator("MODULE_STATE_COMING"), btf.enumerator("LESS"), btf.enumerator("ALL")) == (
        1,
        -2,
        0xFFFFFFFF,
    )
    with pytest.raises(BtfLookupError, match="no enum of the kernel has GREEN"):
        btf.enumerator("GREEN")
