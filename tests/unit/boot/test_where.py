# SPDX-License-Identifier: MIT
"""What a name is: each way in which a kernel can know a module, out of files below a root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lkm.boot.builtin import Parameter, read_builtins
from lkm.boot.where import Line, Presence, read_where
from lkm.cli.main import run
from lkm.errors import LkmError
from lkm.formats.index_writer import pack_values, render_index
from lkm.names import ModuleName
from lkm.root import Root

RELEASE = "6.1.0-test"


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A recorded machine: loop and xfs on disk, loop loaded, binfmt_elf and ext4 built in."""
    tree = f"lib/modules/{RELEASE}"
    put(tmp_path, "proc/sys/kernel/osrelease", RELEASE + "\n")
    put(tmp_path, "proc/modules", "loop 40960 2 - Live 0xffffffffc0000000\n")
    put(tmp_path, "proc/cmdline", "quiet module_blacklist=loop module_blacklist=nouveau,evil-one,evil_one\n")
    put(
        tmp_path,
        "proc/kallsyms",
        "0000000000000010 t init_elf_binfmt\n"
        "0000000000000020 d __initcall__kmod_init__1_2_setupearly\n"
        "0000000000000024 d __initcall__kmod_binfmt_elf__407_2387_init_elf_binfmt1\n"
        "0000000000000028 d __initcall__kmod_ext4__9_8_ext4_init_fs6\n",
    )
    put(tmp_path, "sys/module/loop/initstate", "live\n")
    put(tmp_path, "sys/module/loop/refcnt", "2\n")
    put(tmp_path, "sys/module/kernel/parameters/panic", "0\n")
    for name in ("loop", "xfs", "nouveau", "evil_one"):
        put(tmp_path, f"{tree}/kernel/{name}.ko", "")
    dep = "".join(f"kernel/{name}.ko:\n" for name in ("loop", "xfs", "nouveau", "evil_one", "gone"))
    dep += "kernel/user.ko: kernel/loop.ko kernel/evil_one.ko\n"
    put(tmp_path, f"{tree}/modules.dep", dep)
    put(tmp_path, f"{tree}/modules.alias", "# Aliases\nalias fs-xfs xfs\nalias block-major-7-* loop\n")
    index = {b"fs_xfs": b"xfs", b"block_major_7_*": b"loop"}
    packed = {pattern: pack_values([(0, module)]) for pattern, module in index.items()}
    (tmp_path / tree / "modules.alias.bin").write_bytes(render_index(packed))
    put(tmp_path, f"{tree}/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
    put(
        tmp_path,
        f"{tree}/modules.builtin.modinfo",
        "ext4.license=GPL\0ext4.parm=mb:how many: of them\0ext4.parmtype=mb:int\0mmiotrace.parmtype=nop:bool\0rest\0",
    )
    put(tmp_path, "lib/modules/6.1.0-newer/modules.dep", "kernel/newcomer.ko:\n")
    put(
        tmp_path,
        "etc/modprobe.d/local.conf",
        "# ours\nblacklist nouveau\nalias disk loop\ninstall trap /bin/false\nforbid evil_*\n",
    )
    return Root(str(tmp_path), RELEASE)


def presence_of(root: Root, name: str) -> Presence:
    (presence,) = read_where(root, name).presences
    return presence


def test_a_loaded_one(root: Root) -> None:
    loop = presence_of(root, "loop")
    assert (loop.state, loop.refcnt, loop.aliases) == ("live", 2, ("block-major-7-*",))
    assert loop.path.endswith("kernel/loop.ko")
    assert not loop.builtin_by
    assert not loop.missing


def test_a_built_in_one_is_known_by_its_initcall_alone(root: Root) -> None:
    elf = presence_of(root, "binfmt-elf")
    assert elf.builtin_by == ("initcalls",)
    assert [(call.function, call.level_text) for call in elf.initcalls] == [("init_elf_binfmt", "core")]
    assert presence_of(root, "ext4").builtin_by == ("modules.builtin", "initcalls")
    assert presence_of(root, "mmiotrace").builtin_by == ("modules.builtin.modinfo",)


def test_sysfs_knows_built_in_code_with_parameters(root: Root) -> None:
    assert presence_of(root, "kernel").builtin_by == ("/sys/module/kernel",)
    assert presence_of(root, "loop").builtin_by == ()


@pytest.mark.parametrize(
    ("name", "module"), [("fs-xfs", "xfs"), ("block-major-7-3", "loop"), ("disk", "loop")]
)
def test_an_alias_says_of_what(name: str, module: str, root: Root) -> None:
    presence = presence_of(root, name)
    assert presence.module == module
    assert "alias" in presence.source


def test_what_forbids_it_is_a_line(root: Root) -> None:
    place = root.join("/etc/modprobe.d/local.conf")
    assert presence_of(root, "nouveau").blacklisted == Line(f"{place} line 2", "blacklist nouveau")
    assert presence_of(root, "evil-one").forbidden == Line(f"{place} line 5", "forbid evil_*")
    assert presence_of(root, "user").forbidden == Line(f"{place} line 5", "forbid evil_*")
    assert presence_of(root, "trap").install == Line(f"{place} line 4", "install trap /bin/false")
    assert presence_of(root, "loop").blacklisted is None


def test_the_kernels_own_blacklist(root: Root) -> None:
    assert presence_of(root, "nouveau").kernel_blacklist
    assert presence_of(root, "evil_one").kernel_blacklist
    assert not presence_of(root, "loop").kernel_blacklist


def test_a_file_that_is_gone(root: Root) -> None:
    assert presence_of(root, "gone").missing


def test_one_of_another_kernels_tree(root: Root) -> None:
    found = read_where(root, "newcomer")
    assert not found.known
    assert found.presences[0].other_releases == ("6.1.0-newer",)


@pytest.mark.parametrize(
    ("name", "near"), [("binfm_elf", "binfmt_elf"), ("lop", "loop"), ("elf", "binfmt_elf")]
)
def test_an_unknown_one_has_neighbours(name: str, near: str, root: Root) -> None:
    found = read_where(root, name)
    assert not found.known
    assert near in found.nearest


def test_a_path_is_its_module(root: Root) -> None:
    assert read_where(root, "/somewhere/loop.ko.xz").name == "loop"


def test_what_cannot_be_a_name(root: Root) -> None:
    assert not read_where(root, "[").known


def test_what_is_built_in(root: Root) -> None:
    found = read_builtins(root)
    assert list(found) == ["ext4", "mmiotrace"]
    ext4 = found[ModuleName("ext4")]
    assert ext4.parameters == (Parameter("mb", "int", "how many: of them"),)
    assert (ext4.path, ext4.values("license")) == ("kernel/fs/ext4/ext4.ko", ("GPL",))


ANSWERS = {
    "loop": (0, "loop: loaded, live, refcnt 2"),
    "binfmt_elf": (0, "binfmt_elf: built into the kernel: there is nothing to load"),
    "xfs": (0, "xfs: on disk, not loaded"),
    "nouveau": (0, "nouveau: on disk, not loaded, and its load is forbidden"),
    "gone": (0, "gone: not loaded; modules.dep of 6.1.0-test has a file that is not there"),
    "trap": (0, "trap: no module: a command of the configuration"),
    "newcomer": (1, "newcomer: not of 6.1.0-test: of 6.1.0-newer"),
    "nothing": (1, "nothing: unknown to 6.1.0-test"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answer_is_the_first_line(name: str, root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = ANSWERS[name]
    assert run(["where", "--root", root.path, name]) == code
    assert capsys.readouterr().out.startswith(answer)


def test_where_as_json(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["where", "--root", root.path, "--json", "fs-xfs"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "schema"
    (module,) = found["modules"]
    assert (found["schema"], found["name"], module["module"], module["source"]) == (
        "lkm.where/1", "fs-xfs", "xfs", "alias",
    )  # fmt: skip


def test_list_shows_what_is_built_in(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--root", root.path, "--builtin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "loop"
    assert "ext4        ext4_init_fs (device)            1  GPL" in lines
    assert run(["list", "--root", root.path, "--builtin", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["builtin"]] == ["binfmt_elf", "ext4", "init", "mmiotrace"]
    assert "builtin" not in list_as_json(root, capsys)


def list_as_json(root: Root, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run(["list", "--root", root.path, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def namesake(root: Root) -> Root:
    """kvm is a module on the disk, and built-in code (arch/x86/kernel/kvm.c) has its KBUILD_MODNAME."""
    tree = Path(root.path, "lib/modules", RELEASE)
    put(tree, "kernel/kvm.ko", "")
    with (tree / "modules.dep").open("a", encoding="utf-8") as stream:
        stream.write("kernel/kvm.ko:\n")
    with Path(root.path, "proc/kallsyms").open("a", encoding="utf-8") as stream:
        stream.write("000000000000002c d __initcall__kmod_kvm__1_2_kvm_alloc_cpumask3\n")
    return root


def test_built_in_code_may_have_a_loadable_modules_name(
    namesake: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    kvm = presence_of(namesake, "kvm")
    assert (kvm.builtin_by, len(kvm.initcalls)) == ((), 1)
    assert run(["where", "--root", namesake.path, "kvm"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("kvm: on disk, not loaded")
    assert "initcall of other built-in code of this name: kvm_alloc_cpumask" in text
    assert run(["list", "--root", namesake.path, "--builtin"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kvm ")]
    assert "other code than the loadable module" in line


@pytest.mark.parametrize("command", ["where", "life"])
@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_folder_is_no_name(command: str, name: str, root: Root) -> None:
    assert run([command, "--root", root.path, name]) == 2


def test_of_another_kernel_nothing_is_said_by_the_running_one(root: Root) -> None:
    put(Path(root.path), "lib/modules/6.1.0-newer/modules.dep", "kernel/loop.ko:\nkernel/nouveau.ko:\n")
    other = root._replace(release="6.1.0-newer")
    loop = presence_of(other, "loop")
    assert (loop.state, loop.refcnt, loop.builtin_by) == ("", None, ())
    assert not presence_of(other, "kernel").known
    assert not presence_of(other, "nouveau").kernel_blacklist


def test_a_kernel_without_a_tree_is_an_error(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["where", "--root", root.path, "--kernel", "6.1.0-typo", "loop"]) == 2
    assert f"no kernel 6.1.0-typo below {root.path}" in capsys.readouterr().err
    with pytest.raises(LkmError, match=r"6\.1\.0-typo does not run, and has no tree"):
        read_where(root._replace(release="6.1.0-typo"), "loop")


def test_an_initcall_that_the_command_line_leaves_out(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    put(
        Path(root.path),
        "proc/cmdline",
        "initcall_blacklist=a,init_elf_binfmt quiet initcall-blacklist=b --\n",
    )
    assert presence_of(root, "binfmt_elf").initcall_blacklist == ("init_elf_binfmt",)
    assert presence_of(root, "ext4").initcall_blacklist == ()
    assert run(["where", "--root", root.path, "binfmt_elf"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "binfmt_elf: built into the kernel, and switched off by initcall_blacklist=: there is"
    )
    assert "not called, for /proc/cmdline: initcall_blacklist= names it" in text
    put(Path(root.path), "lib/modules/6.1.0-newer/modules.builtin", "kernel/fs/binfmt_elf.ko\n")
    assert presence_of(root._replace(release="6.1.0-newer"), "binfmt_elf").initcall_blacklist == ()
