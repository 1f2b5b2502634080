# SPDX-License-Identifier: MIT
"""The header of BTF, as btf_parse_hdr, btf_check_sec_info and btf_parse_str_sec take it apart."""

from __future__ import annotations

import errno
import struct

import pytest

from lkm.formats.elf import SHF_ALLOC
from lkm.formats.elfwriter import NewSection
from lkm.preflight.check import check_module
from lkm.preflight.values import Cause
from tests.unit.preflight.world import module, target

STRICT = {
    "CONFIG_MODVERSIONS": "y", "CONFIG_MODULE_SIG": "y", "CONFIG_DEBUG_INFO_BTF_MODULES": "y",
    "CONFIG_MODULE_FORCE_LOAD": "y",
}  # fmt: skip
TYPES, STRINGS = b"\1\0\0\0" * 3, b"\0int\0"


def btf(
    *, header: int = 24, start: int = 0, size: int = 12, strings: int = 12, length: int = 5, extra: bytes = b"",
    text: bytes = STRINGS,
) -> bytes:  # fmt: skip
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, header, start, size, strings, length) + extra + TYPES + text


@pytest.mark.parametrize(("data", "line", "number"), [
    (btf(), "", None),
    (btf(header=32, extra=bytes(8)), "", None),
    (btf(text=b"", length=0), "", None),
    (b"\x9f\xeb\1", "hdr_len not found", errno.EINVAL),
    (btf(header=1 << 20), "btf_header not found", errno.EINVAL),
    (btf(header=25), "Unsupported btf_header", errno.E2BIG),
    (btf(header=0), "Invalid magic", errno.EINVAL),
    (btf(start=100, strings=0, text=STRINGS), "Invalid section offset", errno.EINVAL),
    (btf(start=4), "Unsupported section found", errno.EINVAL),
    (btf(start=0x7FFFFFFF, strings=4, text=b"\0\0\0\0" + STRINGS), "Unsupported section found", errno.EINVAL),
    (btf(start=0xFFFFFFFF, strings=4, text=b"\0\0\0\0" + STRINGS), "Invalid section offset", errno.EINVAL),
    (btf(strings=8), "Section overlap found", errno.EINVAL),
    (btf(length=6), "Total section length too long", errno.EINVAL),
    (btf(length=4), "Unsupported section found", errno.EINVAL),
    (btf(text=b"\0intx"), "Invalid string section", errno.EINVAL),
    (btf(start=5, strings=0, text=b"\0\0\0\0\0"), "String section is not at the end", errno.EINVAL),
])  # fmt: skip
def test_the_first_fault_of_the_header_is_told(data: bytes, line: str, number: int | None) -> None:
    image = module(release="7.0.1-amd64", extra=(NewSection(".BTF", data, flags=SHF_ALLOC),))
    found = check_module(image, target("7.0.1-amd64", config=STRICT))
    assert found.errno == number
    if number:
        assert found.lines == (f"BPF: {line}", f"failed to validate module [sound] BTF: -{number}")
        assert Cause.BTF in {problem.cause for problem in found.problems}


def test_a_third_part_counts_where_the_kernel_knows_of_it() -> None:
    data = btf(header=32, extra=struct.pack("<II", 17, 4)) + bytes(4)
    image = module(release="7.3.1-amd64", extra=(NewSection(".BTF", data, flags=SHF_ALLOC),))
    assert check_module(image, target("7.3.1-amd64", config=STRICT)).loads
    old = check_module(image, target("6.18.1-amd64", config=STRICT))
    assert old.lines[:1] == ("BPF: Unsupported btf_header",)
