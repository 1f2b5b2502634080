# SPDX-License-Identifier: MIT
"""One load that is thought through: the file, the kernel, and what the steps before have found out."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import Optional

from lkm.formats.modinfo import is_gpl_compatible
from lkm.formats.modversions import ENTRY_SIZE
from lkm.formats.raw_module import RawModule
from lkm.names import NAME_OFFSET, NAME_SIZE
from lkm.preflight.kernel import Request, Target, Verdict
from lkm.preflight.rules import Rules, rules_for
from lkm.preflight.values import Certainty

__all__ = ["THIS_MODULE", "Load"]

THIS_MODULE = ".gnu.linkonce.this_module"
NO_NAME = "(missing .modinfo section or name field)"


class Load:
    """`file` is the content as it is given to the kernel: decompressed, with its signature."""

    def __init__(self, file: bytes, target: Target, request: Request) -> None:
        self.file = file
        self.target = target
        self.request = request
        self.rules: Rules = rules_for(target.release)
        self.payload = len(file)
        """How many bytes belong to the module: the signature check shortens them."""
        self.unknown: list[str] = []
        self.signature: Optional[Verdict] = None
        """Of a file that is soundly signed."""

    @property
    def certainty(self) -> Certainty:
        """Of what the order and the wording of a release decide: LIKELY where its series was not read."""
        return Certainty.CERTAIN if self.rules.read else Certainty.LIKELY

    @cached_property
    def image(self) -> RawModule:
        """The module. Not to be asked for before the signature check."""
        return RawModule(self.body)

    @cached_property
    def body(self) -> bytes:
        """The file without its signature, which the signature check finds."""
        return self.file[: self.payload]

    @cached_property
    def info(self) -> int:
        """The section `.modinfo` (setup_load_info; elf_validity_cache_index_info since 6.12)."""
        if self.rules.early_checks:
            found = self.image.find_all(".modinfo")
            return found[0] if len(found) == 1 else 0
        return self.image.find(".modinfo")

    def modinfo_value(self, key: str) -> str | None:
        """The first value of `key`, as get_modinfo finds it."""
        return next(self.image.modinfo(self.info, key), None)

    @cached_property
    def namespaces(self) -> tuple[str, ...]:
        """Those that it imports."""
        return tuple(self.image.modinfo(self.info, "import_ns"))

    @cached_property
    def this_module(self) -> int:
        """The section with the struct module."""
        if self.rules.early_checks:
            found = self.image.find_all(THIS_MODULE)
            return found[0] if len(found) == 1 else 0
        return self.image.find(THIS_MODULE)

    @cached_property
    def struct_name(self) -> str:
        """The name in the struct, by which the module goes (mod->name)."""
        if not self.this_module:
            return ""
        at = self.image.sections[self.this_module].offset + NAME_OFFSET
        raw = self.image.data[at : at + NAME_SIZE].split(b"\0", 1)[0]
        return raw.decode("utf-8", "backslashreplace")

    @cached_property
    def info_name(self) -> str:
        """The name in messages and for the blacklist: `.modinfo`'s, else the struct's (info->name)."""
        return self.modinfo_value("name") or self.struct_name

    @property
    def early_name(self) -> str:
        """The name in messages of the time before the struct is found."""
        return self.modinfo_value("name") or NO_NAME

    @cached_property
    def versions_section(self) -> int:
        """The section `__versions`; 0 where there is none or it is ignored."""
        return 0 if self.request.ignore_modversions else self.image.find("__versions")

    @cached_property
    def versions(self) -> dict[str, int]:
        """`__versions`: symbol → CRC, the first entry of a name; the CRC is compared in all its 64 bits."""
        found: dict[str, int] = {}
        row = self.image.sections[self.versions_section]
        raw = self.image.data[row.offset : row.offset + row.size]
        raw = raw[: len(raw) // ENTRY_SIZE * ENTRY_SIZE]
        for crc, name in struct.iter_unpack(f"<Q{ENTRY_SIZE - 8}s", raw):
            found.setdefault(name.split(b"\0", 1)[0].decode("utf-8", "backslashreplace"), crc)
        return found

    @cached_property
    def extended_versions(self) -> dict[str, int] | None:
        """`__version_ext_crcs` and `__version_ext_names`: symbol → CRC; None where there are none."""
        crcs, names = self.image.find("__version_ext_crcs"), self.image.find("__version_ext_names")
        if self.request.ignore_modversions or not crcs or not names:
            return None
        raw = self.image.content(self.image.sections[crcs])
        text = self.image.content(self.image.sections[names])
        found: dict[str, int] = {}
        at = 0
        for (number,) in struct.iter_unpack("<I", raw[: len(raw) // 4 * 4]):
            end = text.find(b"\0", at)
            if end < 0:
                break
            found.setdefault(text[at:end].decode("utf-8", "backslashreplace"), number)
            at = end + 1
        return found

    @cached_property
    def proprietary(self) -> bool:
        """Whether the licence closes GPL-only symbols to it (set_license, module_license_taint_check; names:
        check_module_license_and_versions, module_augment_kernel_taints)."""
        own = self.modinfo_value("license")
        return not is_gpl_compatible(own) or self.struct_name in ("driverloader", "lve")

    def doubt(self, sentence: str) -> None:
        """Note something that would have to be known."""
        if sentence not in self.unknown:
            self.unknown.append(sentence)
