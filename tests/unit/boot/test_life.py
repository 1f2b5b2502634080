# SPDX-License-Identifier: MIT
"""The life of a module has this module's own values: entries, memory, sections, state, what can follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm.boot.fates import Stage, fate_of, stage_of
from lkm.boot.layout import Memory, plan_memory, total_of
from lkm.boot.life import Entry, Life, Now, life_of_file, transitions_of
from lkm.boot.life_here import read_life
from lkm.cli.main import run
from lkm.errors import LkmError
from lkm.formats.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE
from lkm.formats.elfwriter import NewSection
from lkm.formats.module import parse_module
from lkm.root import Root
from tests.builders import make_module

RELEASE = "6.1.0-test"
WRITE = SHF_ALLOC | SHF_WRITE
CODE = SHF_ALLOC | SHF_EXECINSTR
SECTIONS = (
    NewSection(".init.text", bytes(100), flags=CODE, align=16),
    NewSection(".rodata", bytes(5000), flags=SHF_ALLOC, align=32),
    NewSection(".data", bytes(200), flags=WRITE, align=8),
    NewSection("__jump_table", bytes(32), flags=WRITE, align=8),
    NewSection(".static_call_sites", bytes(8), flags=WRITE),
    NewSection(".data..percpu", bytes(64), flags=WRITE, align=64),
    NewSection(".comment", b"made by hand\0"),
)
INFO = (
    ("vermagic", "6.1.0-test SMP "), ("license", "GPL"), ("depends", "hub"), ("parmtype", "speed:int"),
    ("parm", "mode:how"), ("intree", "Y"),
)  # fmt: skip


def life(now: Now = Now(), **options: object) -> Life:  # noqa: B008 - it is frozen
    data = make_module("demo", modinfo=INFO, extra=SECTIONS, versions={"_printk": 1}, **options)  # type: ignore[arg-type]
    return life_of_file(parse_module(data), "/demo.ko", now)


def lines_of(found: Life, title: str) -> str:
    (step,) = [step for step in found.steps if step.title == title]
    return "\n".join(step.lines)


def test_init_and_exit_are_aliases_of_what_the_source_calls_them() -> None:
    found = life()
    assert found.init == Entry("init_module", "my_init", ".text", 0, 16)
    assert found.exit == Entry("cleanup_module", "my_exit", ".text", 16, 16)
    assert "my_init, 16 bytes at .text+0x0" in lines_of(found, "its init is called")
    assert "my_exit is called, 16 bytes at .text+0x10" in lines_of(found, "it is removed")


def test_sections_go_to_their_memory() -> None:
    memory = {each.name: each.memory for each in life().sections}
    assert memory[".text"] == "text"
    assert memory[".init.text"] == "init_text"
    assert memory[".rodata"] == "rodata"
    assert memory[".gnu.linkonce.this_module"] == memory[".data"] == "data"
    assert memory["__jump_table"] == "ro_after_init"
    assert memory[".modinfo"] == memory["__versions"] == memory[".data..percpu"] == memory[".comment"] == ""


@pytest.mark.parametrize(("release", "kind"), [((6, 15), "data"), ((6, 16), "ro_after_init")])
def test_since_6_16_static_call_sites_are_written_by_init_alone(release: tuple[int, int], kind: str) -> None:
    elf = parse_module(make_module(extra=SECTIONS)).elf
    (found,) = [each.type for each in plan_memory(elf, release) if ".static_call_sites" in each.sections]
    assert found == kind


def test_memory_is_in_whole_pages_and_symbols_are_a_part_of_it() -> None:
    elf = parse_module(make_module(extra=SECTIONS)).elf
    old, new = ({each.type: each for each in plan_memory(elf, release)} for release in ((6, 1), (6, 12)))
    assert old["text"] == Memory("text", 32, 4096, (".text",))
    assert new["rodata"].size == 8192
    assert old["data"].used > 4096 + 24 * 4  # up to 6.3 symbols begin on a page of their own
    assert new["data"].used < 4096
    assert total_of(new.values(), init=False) == 4096 + 8192 + 4096 + 4096
    assert total_of(old.values(), init=False) == 4096 + 8192 + 4096 + 8192
    assert total_of(new.values(), init=True) == 8192


def test_without_kallsyms_all_only_functions_stay() -> None:
    elf = parse_module(make_module(extra=SECTIONS, exports={"demo_export": 7})).elf
    used = [
        {each.type: each.used for each in plan_memory(elf, (6, 12), kallsyms_all=every)}["data"]
        for every in (True, False)
    ]
    assert used[0] > used[1]


def test_steps_have_the_modules_values() -> None:
    found = life()
    assert [step.title for step in found.steps][-1] == "it is removed"
    checks = lines_of(found, "the file is checked")
    assert "vermagic: 6.1.0-test SMP" in checks
    assert "1 symbols have a checksum" in checks
    assert "not signed" in checks
    assert "licence: GPL; built with the kernel" in checks
    assert "it taints the kernel with E: it is not signed" in checks
    assert "speed, mode" in lines_of(found, "state coming")
    assert "hub: held by what it takes" in lines_of(found, "symbols are resolved")
    assert "__jump_table (32 bytes): static branches" in lines_of(found, "state coming")
    assert ".data..percpu: 64 bytes for each processor" in lines_of(found, "its name is taken")
    assert ".data..percpu (64 bytes): one copy a processor" in lines_of(found, "what needs addresses is done")


ORDER = [
    "module_sig_check", "layout_and_allocate", "add_unformed_module", "find_module_sections", "simplify_symbols",
    "apply_relocations", "post_relocation", "complete_formation", "prepare_coming_module", "parse_args",
    "mod_sysfs_setup", "do_init_module", "delete_module(2)", "free_module",
]  # fmt: skip
"""As load_module calls them, in 6.1, 6.15 and 6.18."""


@pytest.mark.parametrize(
    ("release", "checks", "name"),
    [
        ("5.10.0-1", "check_modinfo, kernel/module.c", "add_unformed_module, percpu_modalloc"),
        ("6.1.0-1", "check_modinfo, kernel/module/main.c", "add_unformed_module, percpu_modalloc"),
        (
            "6.12.0-1",
            "early_mod_check, kernel/module/main.c",
            "add_unformed_module, module_augment_kernel_taints",
        ),
    ],
)
def test_steps_are_in_the_kernels_order_and_each_has_its_function(
    release: str, checks: str, name: str
) -> None:
    info = tuple((key, f"{release} SMP " if key == "vermagic" else value) for key, value in INFO)
    found = life_of_file(parse_module(make_module("demo", modinfo=info)), "/demo.ko", Now())
    functions = ", ".join(step.function for step in found.steps)
    places = [functions.index(each) for each in ORDER]
    assert places == sorted(places)
    assert all(step.function for step in found.steps)
    assert checks in functions
    assert name in functions


def test_taints_are_told_by_their_letters() -> None:
    info = (("vermagic", "6.1.0 "), ("license", "Proprietary"), ("staging", "Y"), ("livepatch", "Y"))
    found = life_of_file(parse_module(make_module("demo", modinfo=info)), "/demo.ko", Now())
    text = lines_of(found, "the file is checked")
    assert "licence: Proprietary; out of tree" in text
    assert [part[0] for part in text.partition("taints the kernel with ")[2].split("; ")] == [*"POCKE"]
    without = life_of_file(parse_module(make_module("demo", modinfo=info[:1])), "/demo.ko", Now())
    assert "licence: none; out of tree" in lines_of(without, "the file is checked")
    assert "with P: its licence is not" in lines_of(without, "the file is checked")


def test_a_live_patch_keeps_all_its_symbols() -> None:
    """layout_symtab keeps them, and copy_module_elf the headers: its relocations are applied later."""
    plain, patch = (
        life_of_file(
            parse_module(make_module("demo", modinfo=(*INFO, *more), extra=SECTIONS)), "/d.ko", Now()
        )
        for more in ((), (("livepatch", "Y"),))
    )
    used = [{each.type: each.used for each in found.memory}["data"] for found in (plain, patch)]
    assert used[0] < used[1]
    assert "copy_module_elf" in lines_of(patch, "state coming")
    assert "copy_module_elf" not in lines_of(plain, "state coming")


def test_pages_are_as_large_as_the_kernels() -> None:
    elf = parse_module(make_module(extra=SECTIONS)).elf
    for release in ((6, 1), (6, 12)):
        assert {each.size % 65536 for each in plan_memory(elf, release, page=65536)} == {0}


def test_one_without_an_exit_stays_for_ever() -> None:
    found = life(exit_offset=None)
    assert found.exit is None
    assert "never be removed" in lines_of(found, "it is removed")
    live = life(Now("live", 0), exit_offset=None)
    assert live.transitions[0].obstacle == "it has no exit"


def test_what_init_returned() -> None:
    text = lines_of(life(Now("live", 0, init_result=0, told_by="it is live")), "its init is called")
    assert "here it returned 0 (it is live)" in text
    assert "has not returned" in lines_of(life(Now("coming", 1)), "its init is called")


@pytest.mark.parametrize(
    ("now", "states", "obstacle"),
    [
        (Now(), ["unformed, then coming"], ""),
        (Now("coming", 1), ["live", "going"], ""),
        (Now("live", 0), ["going"], ""),
        (Now("live", 2), ["going"], "its refcnt is 2"),
        (Now("live", 1, ("user",)), ["going"], "used by user"),
        (Now("going", 0), ["gone"], ""),
    ],
)
def test_what_can_follow(now: Now, states: list[str], obstacle: str) -> None:
    found = transitions_of(now, has_init=True, has_exit=True)
    assert [each.state for each in found] == states
    assert found[0].obstacle == obstacle


def test_every_section_of_a_usual_module_has_a_fate() -> None:
    names = ".text .rodata .data .bss __param .rela.text .note.Linux __ksymtab_gpl .rodata.str1.1 .init.data"
    assert all(fate_of(name) for name in names.split())
    assert fate_of(".something.new") == ""
    names = ".altinstr_aux .parainstructions .static_call.text __bpf_raw_tp_map _ftrace_eval_map .ref.data .BTF_ids"
    assert all(fate_of(name) for name in names.split())
    assert [stage_of(name) for name in ("__param", ".orc_unwind", ".note.Linux", ".altinstr_aux")] == [
        Stage.FOUND, Stage.FINISHED, Stage.COMING, None,
    ]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Root:
    tree = tmp_path / "lib/modules" / RELEASE
    (tree / "kernel").mkdir(parents=True)
    (tree / "kernel/demo.ko").write_bytes(make_module("demo", modinfo=INFO, extra=SECTIONS))
    (tree / "modules.dep").write_text("kernel/demo.ko: kernel/hub.ko\nkernel/hub.ko:\n", encoding="utf-8")
    (tree / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n", encoding="utf-8")
    (tree / "modules.builtin.modinfo").write_bytes(b"ext4.license=GPL\0ext4.parmtype=mb:int\0")
    for path, text in {
        "proc/sys/kernel/osrelease": RELEASE,
        "proc/cmdline": "quiet ext4.mb=7",
        "proc/kallsyms": "01 d __initcall__kmod_x__1_1_setupearly\n02 d __initcall__kmod_ext4__9_88_ext4_init_fs6\n",
        "sys/module/demo/initstate": "live",
        "sys/module/demo/refcnt": "0",
        "sys/module/demo/coresize": "20480",
        "sys/module/ext4/parameters/mb": "7",
        "etc/modprobe.d/a.conf": "options demo speed=3\nsoftdep demo pre: helper\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return Root(str(tmp_path), RELEASE)


def test_a_module_of_this_machine(root: Root) -> None:
    found = read_life(root, "demo")
    assert (found.now.state, found.now.core_size, found.now.init_result) == ("live", 20480, None)
    asked = lines_of(found, "it is asked for")
    assert "it needs hub" in asked
    assert "softdep: helper before it" in asked
    assert "options of the configuration: speed=3" in asked
    assert "here it takes 20480 bytes (coresize)" in lines_of(found, "state live")


def test_a_file_is_the_same_module(root: Root) -> None:
    found = read_life(root, root.join(f"/lib/modules/{RELEASE}/kernel/demo.ko"))
    assert (found.name, found.now.state) == ("demo", "live")


def test_a_built_in_one(root: Root) -> None:
    found = read_life(root, "ext4")
    assert found.kind == "built-in"
    assert "ext4_init_fs: level device, order 2, line 88 of its source" in lines_of(
        found, "its initcalls are called"
    )
    parameters = lines_of(found, "its parameters are set")
    assert "given here: ext4.mb=7" in parameters
    assert "mb is 7" in parameters


def test_one_that_nobody_knows(root: Root) -> None:
    with pytest.raises(LkmError, match="lkm where nobody says more"):
        read_life(root, "nobody")
    with pytest.raises(LkmError, match="cannot be read"):
        read_life(root, "/nonexistent/demo.ko")


def test_life_as_text_and_json(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["life", "--root", root.path, "--sections", "demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"demo: loadable, for {RELEASE}"
    assert "now: live, refcnt 0" in lines
    assert "  next: going, by delete_module(2)" in lines
    assert any(line.startswith(".rodata ") and " rodata " in line for line in lines)
    assert run(["life", "--root", root.path, "--json", "demo"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (next(iter(found)), found["schema"], found["init"]["function"]) == (
        "schema",
        "lkm.life/1",
        "my_init",
    )
    assert run(["life", "--root", root.path, "ext4"]) == 0
    assert capsys.readouterr().out.startswith(f"ext4: built-in, for {RELEASE}")
    assert run(["life", "--root", root.path, "nobody"]) == 1


def test_of_another_kernel_nothing_is_said_by_the_running_one(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (Path(root.path, "lib/modules", name) for name in (RELEASE, "6.1.0-other"))
    old.rename(new)
    boot = Path(root.path, "proc/sys/kernel/osrelease")
    assert boot.read_text(encoding="utf-8") == RELEASE
    other = root._replace(release="6.1.0-other")
    demo, ext4 = read_life(other, "demo"), read_life(other, "ext4")
    assert (demo.now, demo.transitions) == (Now(running=False), ())
    parameters = lines_of(ext4, "its parameters are set")
    assert "as ext4.mb=" in parameters
    assert "given here" not in parameters
    assert "mb is 7" not in parameters
    assert ext4.initcalls == ()
    assert run(["life", "--root", root.path, "--kernel", "6.1.0-other", "demo"]) == 0
    assert "now: that kernel does not run: it has no state" in capsys.readouterr().out


def test_a_live_one_need_not_have_returned_0() -> None:
    """do_init_module warns of "suspiciously returned N", and lets it live."""
    text = lines_of(life(Now("live", 0)), "its init is called")
    assert "it is live: 0, or with a warning more" in text
    assert "here it returned 0" not in text


def test_counts_are_those_of_lsmod() -> None:
    found = life()
    assert "its refcnt, as lsmod shows it, is 1" in lines_of(found, "state coming")
    assert "its refcnt must be 0, as lsmod shows it" in lines_of(found, "it is removed")


def test_each_level_has_its_caller(root: Root) -> None:
    with Path(root.path, "proc/kallsyms").open("a", encoding="utf-8") as stream:
        stream.write("03 d __initcall__kmod_vt__1_1_con_initcon\n")
    (step,) = [step for step in read_life(root, "vt").steps if step.title == "its initcalls are called"]
    assert step.function == "console_init, kernel/printk/printk.c"
    (step,) = [step for step in read_life(root, "x").steps if step.title == "its initcalls are called"]
    assert step.function == "do_pre_smp_initcalls, init/main.c"


def test_the_exit_of_built_in_code_is_not_always_thrown_away_by_the_linker(root: Root) -> None:
    text = lines_of(read_life(root, "ext4"), "it stays")
    assert "its exit is never called; its code goes with the init memory" in text


def test_messages_that_cannot_be_read_are_told(root: Root) -> None:
    assert "when it ran is not known: /dev/kmsg: " in lines_of(
        read_life(root, "ext4"), "its initcalls are called"
    )
    assert "what it returned is not known: /dev/kmsg: " in lines_of(
        read_life(root, "demo"), "its init is called"
    )


@pytest.mark.parametrize("state", ["live", ""])
def test_nothing_is_loaded_or_removed_where_modules_are_disabled(state: str, root: Root) -> None:
    Path(root.path, "proc/sys/kernel/modules_disabled").write_text("1\n", encoding="utf-8")
    Path(root.path, "sys/module/demo/initstate").write_text(state, encoding="utf-8")
    (row,) = read_life(root, "demo").transitions
    assert row.obstacle == "kernel.modules_disabled is set"


def test_pages_of_another_kernel_are_by_its_configuration(root: Root) -> None:
    assert total_of(read_life(root, "demo").memory, init=True) == 8192
    config = Path(root.path, "boot/config-" + RELEASE)
    config.parent.mkdir()
    config.write_text("CONFIG_KALLSYMS_ALL=y\nCONFIG_ARM64_64K_PAGES=y\n", encoding="utf-8")
    assert total_of(read_life(root, "demo").memory, init=True) == 2 * 65536
    config.write_text("CONFIG_KALLSYMS_ALL=y\nCONFIG_ARM64_16K_PAGES=y\n", encoding="utf-8")
    assert total_of(read_life(root, "demo").memory, init=True) == 2 * 16384


def test_pages_of_the_running_kernel_are_asked_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "demo.ko"
    file.write_bytes(make_module("demo", modinfo=INFO))
    monkeypatch.setattr("os.sysconf", {"SC_PAGESIZE": 16384}.__getitem__)
    assert {each.size for each in read_life(Root.live(), str(file)).memory} == {16384, 32768}


def test_an_init_that_the_command_line_leaves_out(root: Root) -> None:
    Path(root.path, "proc/cmdline").write_text("initcall_blacklist=my_init,ext4_init_fs\n", encoding="utf-8")
    assert "names it: not called, and the load fails (EPERM)" in lines_of(
        read_life(root, "demo"), "its init is called"
    )
    called = lines_of(read_life(root, "ext4"), "its initcalls are called")
    assert "not called: initcall_blacklist= on the kernel's command line names it" in called
    assert "when it ran" not in called
    assert "not called" not in lines_of(
        read_life(root._replace(release="6.1.0-other"), root.join(f"/lib/modules/{RELEASE}/kernel/demo.ko")),
        "its init is called",
    )


def test_a_value_on_the_command_line_may_have_spaces(root: Root) -> None:
    Path(root.path, "proc/cmdline").write_text('ext4.mb="7 8" x.mb=1\n', encoding="utf-8")
    assert 'given here: ext4.mb="7 8"' in lines_of(read_life(root, "ext4"), "its parameters are set")
