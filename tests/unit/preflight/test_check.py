# SPDX-License-Identifier: MIT
"""Causes one by one, on modules that are made up; tests/vm/test_check.py compares hundreds with real kernels."""

from __future__ import annotations

import errno

import pytest

from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE
from lkm.formats.elfwriter import NewSection, NewSymbol
from lkm.formats.signature import append_signature
from lkm.preflight.check import check_module
from lkm.preflight.kernel import Loaded, Machine, Providers, Request
from lkm.preflight.sources import refuses_missing_versions
from lkm.preflight.values import Cause, Certainty, Prediction
from tests.mutants.editor import Editor
from tests.unit.preflight.world import CRCS, SIZE, module, target


def causes(prediction: Prediction) -> list[Cause]:
    return [problem.cause for problem in prediction.problems if problem.errno is not None]


def test_a_sound_module_would_load() -> None:
    prediction = check_module(module(), target())
    assert prediction.loads is True
    assert prediction.module == "sound"
    assert causes(prediction) == []


def test_an_empty_file_and_junk_are_answered() -> None:
    assert check_module(b"", target()).errno == errno.EINVAL
    prediction = check_module(b"#!/bin/sh\n" * 10, target())
    assert prediction.lines == (r"Invalid ELF header magic: != \x7fELF",)


def test_5_10_has_one_line_for_all_faults_of_the_tables() -> None:
    prediction = check_module(b"x" * 100, target("5.10.0-1-amd64"))
    assert prediction.lines == ("Module has invalid ELF structures",)


@pytest.mark.parametrize(("release", "errno_"), [("6.1.0-1-amd64", None), ("6.12.1-amd64", errno.ENOEXEC)])
def test_the_size_of_the_struct_counts_since_6_4(release: str, errno_: int | None) -> None:
    prediction = check_module(module(release=release, size=SIZE + 64), target(release))
    assert prediction.errno == errno_
    assert Cause.STRUCT_MODULE in {problem.cause for problem in prediction.problems}


def test_an_init_at_another_place_of_the_struct_is_told() -> None:
    """Another configuration may move a member and keep the size: it loads, and the kernel finds no init."""
    prediction = check_module(module(init=320, exit_function=True), target())
    assert prediction.loads is True
    (note,) = [problem for problem in prediction.problems if problem.cause is Cause.STRUCT_MODULE]
    assert "has init_module at 320, this kernel's at 312" in note.words
    assert "its init would not be called" in note.words
    right = check_module(module(exit_function=True), target())
    assert Cause.STRUCT_MODULE not in [problem.cause for problem in right.problems]


def test_every_fault_is_told_and_the_first_one_decides() -> None:
    """Layout, licence, a symbol and a parameter are wrong: the layout is what insmod would hear of."""
    data = module(info={"license": "Proprietary"}, imports=("printk", "gpl_function", "nobody_has_it"),
                  crcs={**CRCS, "module_layout": 1, "printk": 2})  # fmt: skip
    prediction = check_module(data, target())
    assert causes(prediction) == [
        Cause.MODULE_LAYOUT,
        Cause.SYMBOL_VERSION,
        Cause.GPL_ONLY,
        Cause.SYMBOL_MISSING,
    ]
    assert prediction.errno == errno.ENOEXEC
    assert prediction.lines == ("sound: disagrees about version of symbol module_layout",)


def test_of_bad_symbols_the_last_one_gives_the_errno() -> None:
    """simplify_symbols goes through all of them, and returns what it got last."""
    last_missing = check_module(module(imports=("spaced", "nobody_has_it")), target())
    assert last_missing.errno == errno.ENOENT
    last_namespace = check_module(module(imports=("nobody_has_it", "spaced")), target())
    assert last_namespace.errno == errno.EINVAL
    assert last_namespace.lines == (
        "sound: Unknown symbol nobody_has_it (err -2)",
        "sound: module uses symbol (spaced) from namespace SPACE, but does not import it.",
        "sound: Unknown symbol spaced (err -22)",
    )


def test_a_namespace_that_is_imported_is_open() -> None:
    assert check_module(module(imports=("spaced",), info={"import_ns": "SPACE"}), target()).loads


@pytest.mark.parametrize(("has", "loads"), [
    ("6.1.0-1-amd64 SMP preempt mod_unload modversions ", True),
    ("4.4 SMP preempt mod_unload modversions ", True),  # with CRCs, the release does not count
    ("6.1.0-1-amd64 SMP mod_unload modversions ", False),
    ("6.1.0-1-amd64 SMP preempt mod_unload modversions", False),
])  # fmt: skip
def test_vermagic_is_compared_word_by_word(has: str, *, loads: bool) -> None:
    prediction = check_module(module(info={"vermagic": has}), target())
    assert prediction.loads is loads
    if not loads:
        assert prediction.lines == (
            f"sound: version magic '{has}' should be '6.1.0-1-amd64 SMP preempt mod_unload modversions '",
        )


def test_without_crcs_the_release_counts() -> None:
    kernel = target(config={"CONFIG_MODULE_FORCE_LOAD": "y"})
    data = module(info={"vermagic": "4.4 SMP preempt mod_unload modversions "}).replace(
        b"__versions", b"__without_"
    )
    prediction = check_module(data, kernel)
    assert causes(prediction)[0] is Cause.VERMAGIC
    assert "that counts" in prediction.problems[-1].words or "that counts" in str(prediction.problems)


@pytest.mark.parametrize(
    ("state", "number"), [("live", errno.EEXIST), ("going", errno.EBUSY), ("coming", None)]
)
def test_a_name_that_is_taken(state: str, number: int | None) -> None:
    prediction = check_module(module(), target(loaded={"sound": Loaded(state)}))
    assert prediction.errno == number
    if state == "coming":
        assert prediction.loads is None
        assert "in progress" in prediction.unknown[0]


def test_a_provider_counts_when_it_is_loaded_or_will_be() -> None:
    data = module(imports=("of_module",), crcs={**CRCS, "of_module": 0x55555555})
    alone = check_module(data, target())
    assert (alone.errno, causes(alone)) == (errno.ENOENT, [Cause.PROVIDER_NOT_LOADED])
    assert "modprobe provider" in alone.problems[-1].remedy
    assert check_module(data, target(loaded={"provider": Loaded()})).loads
    assert check_module(data, target(providers=Providers.ON_DISK)).loads


def test_gpl_only_symbols_close_proprietary_providers() -> None:
    data = module(imports=("gpl_function", "of_module"), crcs={**CRCS, "of_module": 0x55555555})
    prediction = check_module(data, target(loaded={"provider": Loaded(proprietary=True)}))
    assert causes(prediction) == [Cause.PROPRIETARY_PROVIDER]
    assert prediction.errno == errno.ENOENT


@pytest.mark.parametrize(("policy", "cause", "number"), [
    (Machine(False, False, "none", False, ()), Cause.NO_PRIVILEGE, errno.EPERM),
    (Machine(True, True, "none", False, ()), Cause.MODULES_DISABLED, errno.EPERM),
    (Machine(True, False, "none", True, ()), Cause.UNSIGNED, errno.EKEYREJECTED),
    (Machine(True, False, "integrity", False, ()), Cause.LOCKDOWN, errno.EPERM),
    (Machine(True, False, "none", False, ("sound",)), Cause.BLACKLISTED, errno.EPERM),
])  # fmt: skip
def test_policies(policy: Machine, cause: Cause, number: int) -> None:
    prediction = check_module(module(), target(policy=policy))
    assert (prediction.errno, causes(prediction)) == (number, [cause])


def test_a_corrupt_signature_is_fatal_and_a_foreign_one_is_not() -> None:
    assert check_module(append_signature(module(), b"junk"), target()).errno == errno.EBADMSG
    too_long = append_signature(module(), b"x")[:-32] + b"\xff" * 4 + append_signature(b"", b"x")[-28:]
    assert check_module(too_long, target()).errno == errno.EBADMSG


def test_a_section_that_is_writable_and_executable() -> None:
    both = NewSection(".both", bytes(16), flags=SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR)
    prediction = check_module(module(extra=(both,)), target())
    assert causes(prediction) == [Cause.WRITE_EXEC]
    assert "section .both (index" in prediction.lines[0]


def test_7_x_wants_flags_for_exports() -> None:
    table = NewSection("__ksymtab", bytes(12), flags=SHF_ALLOC)
    for release, expected in (("6.18.1-amd64", []), ("7.3.1-amd64", [Cause.EXPORT_TABLES])):
        assert causes(check_module(module(release=release, extra=(table,)), target(release))) == expected


def test_an_export_that_somebody_has() -> None:
    table = NewSection("__ksymtab", bytes(12), flags=SHF_ALLOC)
    again = NewSymbol("__ksymtab_gpl_function", "__ksymtab")
    prediction = check_module(module(extra=(table,), symbols=(again,)), target())
    assert prediction.lines == ("sound: exports duplicate symbol gpl_function (owned by kernel)",)


def test_a_name_that_is_built_in() -> None:
    prediction = check_module(module("printk"), target(sysfs_names=frozenset({"printk"})))
    assert (prediction.errno, prediction.lines) == (errno.EINVAL, ("printk: module is already loaded",))


def test_what_is_not_known_is_said() -> None:
    """No sibling, no exports: nothing is made up."""
    prediction = check_module(module(), target(vermagic=None, exports=None))
    assert prediction.loads is None
    assert len(prediction.unknown) == 3


def test_a_series_that_was_not_read_is_told_as_likely() -> None:
    for release, certainty in (("6.12.1-amd64", Certainty.CERTAIN), ("6.8.1-amd64", Certainty.LIKELY)):
        prediction = check_module(module(release=release, size=64 + SIZE), target(release))
        assert [problem.certainty for problem in prediction.problems if problem.errno] == [certainty]


def test_forced_loads_need_no_vermagic_where_the_kernel_allows_it() -> None:
    request = Request(ignore_vermagic=True, ignore_modversions=True)
    for setting, loads in (("y", True), ("n", False)):
        kernel = target(config={"CONFIG_MODVERSIONS": "y", "CONFIG_MODULE_FORCE_LOAD": setting})
        assert check_module(module(info={"vermagic": "x"}), kernel, request).loads is loads


def test_a_struct_of_another_size_hides_no_fault_of_the_tables() -> None:
    """6.12 looks at the struct before it counts symbol tables: both are told, and nothing is read behind them."""
    editor = Editor(module(release="6.12.1-amd64", size=SIZE + 64))
    editor.set_section(editor.table, type=0)
    prediction = check_module(editor.result(), target("6.12.1-amd64"))
    assert causes(prediction) == [Cause.STRUCT_MODULE, Cause.NO_SYMBOL_TABLE]


def test_a_symbol_that_versions_lacks_is_refused_by_debians_kernels_only() -> None:
    """check_version: "Broken toolchain. Warn once, then let it go", but for Debian's patch."""
    data = module(
        imports=("printk", "gpl_function"), crcs={key: crc for key, crc in CRCS.items() if key != "printk"}
    )
    for strict in (True, None):
        refused = check_module(data, target(strict_versions=strict))
        assert refused.errno == errno.EINVAL
        assert refused.lines == (
            "sound: no symbol version for printk",
            "sound: Unknown symbol printk (err -22)",
        )
    taken = check_module(data, target(strict_versions=False))
    assert taken.loads
    (note,) = [problem for problem in taken.problems if problem.cause is Cause.SYMBOL_VERSION]
    assert note.lines == ("sound: no symbol version for printk",)
    assert "Debian's" in note.words


def test_so_it_is_with_module_layout() -> None:
    data = module(crcs={"printk": CRCS["printk"]})
    assert check_module(data, target(strict_versions=True)).errno == errno.ENOEXEC
    assert check_module(data, target(strict_versions=False)).loads


@pytest.mark.parametrize(("banner", "strict"), [
    ("Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0)", True),
    ("Linux version 6.8.0-31-generic (buildd@lcy02-amd64-080) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0))", False),
    ("Linux version 6.8.4-2-pve (build@proxmox) (gcc (Debian 12.2.0-14) 12.2.0)", False),
    ("", None),
])  # fmt: skip
def test_who_built_a_kernel_says_whether_it_is_patched(banner: str, *, strict: bool | None) -> None:
    assert refuses_missing_versions(banner) is strict
