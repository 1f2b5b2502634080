# SPDX-License-Identifier: MIT
"""depmod run again: what it takes from the run before, and that the files are those of a run without it."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lkm.cli.kmod.main import run
from lkm.tree.depmod import collect
from lkm.tree.depmod.cache import default_cache, is_racy
from lkm.tree.depmod.resolve import transitive
from lkm.tree.depmod.state import State
from tests.depmod import RELEASE, make_tree, module_bytes, read_files

SYMBOLS = [f"symbol_{number}" for number in range(12)]
NAMES = [f"kernel/{name}.ko" for name in ("a", "b-c", "d", "e", "f")] + [
    "extra/g.ko",
    "updates/a.ko",
    "extra/x.ko",
]
SETTLED = 0.12
"""Seconds after which a file counts as old enough to be known again."""


def lkm(top: Path, *options: str) -> int:
    """With a cache beside the tree: of an image none is kept unless it is asked for."""
    return run("depmod", ["-b", str(top), "--cache", str(top.parent / "cache"), *options, RELEASE])


def done(top: Path, capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    """How many modules a run has read, and what it has written."""
    capfd.readouterr()
    assert lkm(top, "--json", *options) == 0
    summary = json.loads(capfd.readouterr().out)
    return summary["read"], [name.removeprefix("modules.") for name in summary["written"]]


def assert_as_made_anew(top: Path) -> None:
    """The files are those of a run that knows nothing."""
    anew = top.parent / "anew"
    assert lkm(top, "--no-cache", "-o", str(anew)) == 0
    assert read_files(top / "lib/modules" / RELEASE) == read_files(anew / "lib/modules" / RELEASE)


def some_module(chance: random.Random, name: str) -> bytes:
    """A module that exports, needs and is called something."""
    number = chance.randrange(len(SYMBOLS))
    return module_bytes(
        Path(name).stem,
        # Who exports a symbol needs only later ones: no loops.
        exports=[SYMBOLS[number]] if chance.random() < 0.7 else [],
        imports=chance.sample(SYMBOLS[number + 1 :], min(chance.randrange(3), len(SYMBOLS) - number - 1)),
        info=[("alias", f"a-{chance.randrange(4)}*") for _ in range(chance.randrange(3))]
        + [("softdep", f"pre: {chance.randrange(9)}")] * chance.randrange(2),
    )


def settle() -> None:
    time.sleep(SETTLED)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    files = {
        "kernel/a.ko": module_bytes("a", exports=["one"], info=[("alias", "x-a")]),
        "kernel/b.ko": module_bytes("b", exports=["two"], imports=["one", "none"], info=[("alias", "x-a")]),
        "kernel/c.ko": module_bytes("c", imports=["two"], info=[("softdep", "pre: a")]),
    }
    make_tree(top, files, order=files)
    settle()
    assert lkm(top) == 0
    return top


def test_nothing_is_read_or_written_when_nothing_has_changed(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert done(tree, capfd) == (0, [])
    assert done(tree, capfd, "-A") == (0, [])


def test_only_what_has_changed_is_read_and_only_its_files_are_written(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tree / "lib/modules" / RELEASE / "kernel/c.ko"
    path.write_bytes(module_bytes("c", imports=["two"], info=[("softdep", "pre: b")]))
    settle()
    assert done(tree, capfd) == (1, ["dep", "softdep"])
    assert_as_made_anew(tree)
    path.write_bytes(module_bytes("c", imports=["one"], info=[("alias", "y"), ("softdep", "pre: b")]))
    assert done(tree, capfd) == (1, ["dep", "dep.bin", "alias", "alias.bin"])
    assert_as_made_anew(tree)


def test_a_new_export_is_found_by_those_that_had_needed_it_all_along(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = make_tree(tree, {"extra/z.ko": module_bytes("z", exports=["none"])})
    assert done(tree, capfd)[0] == 2
    assert "kernel/b.ko: extra/z.ko kernel/a.ko\n" in (directory / "modules.dep").read_text()
    assert_as_made_anew(tree)


@pytest.mark.parametrize("imports", [["one", "none"], ["none", "one"], ["one"], ["one", "none", "nobody"]])
def test_who_needs_what_it_did_is_not_resolved_anew(
    tree: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, imports: list[str]
) -> None:
    """What nobody exports is remembered all the same: somebody may, later."""
    resolved = []

    def seen(used: list[list[int]], ordered: list[int]) -> list[list[int]]:
        resolved.append(len(used))
        return transitive(used, ordered)

    monkeypatch.setattr("lkm.tree.depmod.run.transitive", seen)
    path = tree / "lib/modules" / RELEASE / "kernel/b.ko"
    path.write_bytes(module_bytes("b", exports=["two"], imports=imports, info=[("alias", "x-b")]))
    settle()
    assert done(tree, capfd) == (1, ["dep", "alias", "alias.bin"])
    assert bool(resolved) is ("nobody" in imports)
    assert_as_made_anew(tree)
    directory = make_tree(tree, {"extra/z.ko": module_bytes("z", exports=["none"])})
    assert done(tree, capfd)[0] == (2 if "none" in imports else 1)
    lines = (directory / "modules.dep").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("kernel/b.ko:"))
    assert ("extra/z.ko" in line) is ("none" in imports)
    assert_as_made_anew(tree)


def test_modules_come_and_go_between_others(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All numbers behind them change; the indexes are patched all the same, again and again."""
    directory = tree / "lib/modules" / RELEASE
    make_tree(
        tree,
        {
            f"kernel/m{number}.ko": module_bytes(
                f"m{number}",
                exports=[f"s{number}"],
                imports=[f"s{number + 1}"],
                info=[("alias", "all"), ("alias", f"own-{number}"), ("softdep", "pre: a")],
            )
            for number in range(8)
        },
    )
    settle()
    lkm(tree)
    for gone in ("m3", "m0", "b"):
        (directory / f"kernel/{gone}.ko").rename(directory / f"kernel/{gone}")
        assert done(tree, capfd)[0] == 0
        assert_as_made_anew(tree)
    (directory / "kernel/m5.ko").rename(directory / "extra-m5.ko")
    assert done(tree, capfd)[0] == 1
    assert_as_made_anew(tree)
    for back in ("m0", "m3", "b"):
        (directory / f"kernel/{back}").rename(directory / f"kernel/{back}.ko")
        done(tree, capfd)
        assert_as_made_anew(tree)


def test_a_deleted_exporter_is_missed(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With -A too, where kmod looks at times only."""
    directory = tree / "lib/modules" / RELEASE
    (directory / "kernel/a.ko").unlink()
    assert done(tree, capfd, "-A")[0] == 0
    assert (directory / "modules.dep").read_text() == "kernel/b.ko:\nkernel/c.ko: kernel/b.ko\n"
    assert_as_made_anew(tree)


def test_a_module_that_only_looks_the_same_is_read(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tree / "lib/modules" / RELEASE / "kernel/c.ko"
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"pre: a\0", b"pre: b\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert done(tree, capfd)[0] == 1
    assert_as_made_anew(tree)


def test_a_module_that_was_written_just_before_it_was_read_is_read_again(
    tree: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have changed since, within the resolution of the clock."""
    path = tree / "lib/modules" / RELEASE / "kernel/c.ko"
    path.write_bytes(path.read_bytes())
    with monkeypatch.context() as slow:
        slow.setattr("lkm.tree.depmod.cache._FINE", 3600 * 10**9)  # a machine as slow as it likes
        assert done(tree, capfd)[0] == 1
        assert done(tree, capfd)[0] == 3
    settle()
    assert done(tree, capfd)[0] == 3
    assert done(tree, capfd) == (0, [])


def test_quick_without_a_cache(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Times, as kmod has it; but also which modules there are, and whether all files are."""
    directory = tree / "lib/modules" / RELEASE
    assert done(tree, capfd, "-A", "--no-cache") == (0, [])
    later = time.time() + 2
    os.utime(directory / "kernel/c.ko", (later, later))
    assert done(tree, capfd, "-A", "--no-cache")[0] == 3
    os.utime(directory / "modules.dep", (later, later))
    (directory / "kernel/b.ko").unlink()
    assert done(tree, capfd, "-A", "--no-cache")[0] == 2
    os.utime(directory / "modules.dep", (later, later))
    (directory / "modules.weakdep").unlink()
    assert done(tree, capfd, "-A", "--no-cache")[0] == 2


def test_what_counts_as_too_recent() -> None:
    second = 1_000_000_000
    now = 1_700_000_000 * second
    assert is_racy((1, 1, now - 50_000_000, now - 10 * second - 1), now)
    assert is_racy((1, 1, 0, now + second + 1), now)
    assert not is_racy((1, 1, now - 200_000_001, 0), now)
    assert is_racy((1, 1, 0, now - 2 * second), now)  # whole seconds: the file system may know no others
    assert not is_racy((1, 1, 0, now - 3 * second), now)
    assert is_racy((1, 1, now - 99 * second, now - 99 * second), now)  # an image may give all files this time
    assert not is_racy((1, 1, now - 99 * second + 1, now - 99 * second + 1), now)


def test_names_of_devices_are_written_where_they_change(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tree / "lib/modules" / RELEASE / "kernel/c.ko"
    for number, aliases in enumerate((["a", "devname:d", "char-major-10-7"], ["a", "b"], ["b"])):
        path.write_bytes(module_bytes("c", info=[("alias", alias) for alias in aliases]))
        settle()
        _, written = done(tree, capfd)
        assert ("devname" in written) is (number < 2)
        assert_as_made_anew(tree)


@pytest.mark.parametrize("name", ["dep", "alias.bin", "devname"])
@pytest.mark.parametrize("change", ["delete", "replace", "append"])
def test_a_file_that_somebody_else_changed_is_made_anew(
    tree: Path, capfd: pytest.CaptureFixture[str], name: str, change: str
) -> None:
    path = tree / "lib/modules" / RELEASE / f"modules.{name}"
    content = path.read_bytes()
    if change == "append":
        path.write_bytes(content + b"x")
    else:
        path.unlink()
    if change == "replace":
        path.write_bytes(b"x" * len(content))
    assert done(tree, capfd)[0] == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["order", "builtin", "builtin.modinfo"])
def test_other_inputs_count_too(tree: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    path = tree / "lib/modules" / RELEASE / f"modules.{name}"
    text = {"order": "kernel/c.ko\n", "builtin": "kernel/z.ko\n", "builtin.modinfo": "z.alias=y\0"}[name]
    path.write_text(text, encoding="utf-8")
    assert done(tree, capfd)[0] == 0
    assert_as_made_anew(tree)


def test_configuration_counts_too(tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.conf").write_text("exclude kernel\n", encoding="utf-8")
    assert done(tree, capfd, "-C", str(tmp_path / "x.conf"))[0] == 0
    assert (tree / "lib/modules" / RELEASE / "modules.dep").read_text() == ""


def test_messages_are_told_again(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_tree(
        tree,
        {"kernel/broken.ko": b"no module at all", "kernel/w.ko": module_bytes("w", info=[("alias", "[")])},
    )
    settle()
    for _ in range(3):
        assert lkm(tree) == 0
        told = capfd.readouterr().err
        assert "broken.ko: Exec format error\n" in told
        assert "Unmatched bracket in [\n" in told
    (tree / "lib/modules" / RELEASE / "kernel/broken.ko").unlink()
    assert lkm(tree, "-A") == 0
    capfd.readouterr()
    assert lkm(tree, "-A") == 0
    assert capfd.readouterr().err == ""


def test_a_module_that_could_not_be_read_is_tried_again(
    tree: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been this moment, or a decompressor that has come since: -A asks, too."""
    path = os.fsencode(tree / "lib/modules" / RELEASE / "kernel/b.ko")

    def fail(name: bytes, *arguments: object, **named: object) -> int:
        if name == path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return os_open(name, *arguments, **named)  # type: ignore[arg-type]

    os_open = os.open
    (tree / "lib/modules" / RELEASE / "kernel/b.ko").touch()
    settle()
    with monkeypatch.context() as failing:
        failing.setattr(os, "open", fail)
        assert done(tree, capfd)[0] == 1
    assert "kernel/b.ko: kernel" not in (tree / "lib/modules" / RELEASE / "modules.dep").read_text()
    assert done(tree, capfd, "-A")[0] == 1
    assert_as_made_anew(tree)
    assert done(tree, capfd, "-A") == (0, [])


@pytest.mark.parametrize("kind", [
    f"{damage} {which}"
    for damage in ("empty", "cut", "flip", "foreign", "writable", "link", "directory")
    for which in ("head", "base")
])  # fmt: skip
def test_a_cache_that_cannot_be_trusted_is_none(
    tree: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    damage, which = kind.split()
    path = sorted((tmp_path / "cache").iterdir())[which == "base"]
    data = path.read_bytes()
    if damage in {"empty", "cut"}:
        path.write_bytes(data[: len(data) // 2 if damage == "cut" else 0])
    elif damage == "flip":
        path.write_bytes(bytes(255 - byte for byte in data))
    elif damage == "foreign":
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
    elif damage == "writable":
        path.chmod(0o622)
    elif damage == "link":
        shutil.copy(path, tmp_path / "elsewhere")
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
        path.mkdir()
    assert done(tree, capfd)[0] == 3
    assert_as_made_anew(tree)


@pytest.mark.parametrize("which", [0, 1])
def test_every_flipped_byte_of_the_cache_is_noticed_or_does_no_harm(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], which: int
) -> None:
    path = sorted((tmp_path / "cache").iterdir())[which]
    data = path.read_bytes()
    before = read_files(tree / "lib/modules" / RELEASE)
    chance = random.Random(5)
    for at in chance.sample(range(len(data)), 60):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        (tree / "lib/modules" / RELEASE / "modules.dep").unlink()
        assert lkm(tree) == 0
        assert read_files(tree / "lib/modules" / RELEASE) == before


def test_the_oldest_of_many_caches_go_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    ours = [f"{number:08x}-{number:08x}{end}" for number in range(40) for end in ("", ".base")]
    others = ["notes", "0123456789abcdef0", "00000001-00000001.txt", "0000000g-00000001"]
    named_alike = "00000000-00000000.0123456789abcdef", "00000001-00000041"
    for age, name in enumerate([*others, *named_alike, *ours]):
        (directory / name).write_bytes(b"" if name in (*others, named_alike[1]) else b"lkm-depmod-1\0\0\0\n")
        os.utime(directory / name, (age, age))
    precious = tmp_path / "precious"
    precious.write_bytes(b"lkm-depmod-1\0\0\0\n")
    (directory / "00000001-00000042").symlink_to(precious)
    (directory / "00000001-00000043").mkdir()
    os.mkfifo(directory / "00000001-00000044")
    others += [named_alike[1], *(f"00000001-0000004{number}" for number in (2, 3, 4))]
    (tree / "lib/modules" / RELEASE / "kernel/c.ko").unlink()
    assert lkm(tree) == 0
    left = {path.name for path in directory.iterdir()}
    assert set(others) <= left
    assert len(left) == 64 + len(others)
    assert set(ours[-60:]) <= left
    assert named_alike[0] not in left


@pytest.mark.parametrize("kind", ["writable", "link", "foreign"])
def test_nothing_is_kept_where_others_may_write(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = tmp_path / "place"
    place.mkdir(0o700)
    if kind == "writable":
        place.chmod(0o777)
    elif kind == "link":
        (tmp_path / "link").symlink_to(place)
    elif os.geteuid() == 0:
        os.chown(place, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    named = tmp_path / "link" if kind == "link" else place
    assert done(tree, capfd, "--cache", str(named))[0] == 3
    assert not list(place.iterdir())


def test_what_a_killed_run_has_left_in_the_cache_is_no_harm(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A pid comes again: where the first process of a container makes the files, it is always 1."""
    cache = tree.parent / "cache"
    for path in list(cache.iterdir()):
        (cache / f"{path.name}.{os.getpid()}").write_bytes(b"")
        path.unlink()
    assert done(tree, capfd)[0] == 3
    assert done(tree, capfd) == (0, [])


def test_of_what_is_on_an_image_nothing_is_kept(
    tree: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another image in its place may have the same numbers and times."""
    status = os.statvfs(tree)
    read_only = os.statvfs_result([*status[:8], status.f_flag | os.ST_RDONLY, *status[9:10]])
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert done(tree, capfd)[0] == 3
    assert done(tree, capfd)[0] == 3


def test_two_runs_begin_one_after_the_other(
    tree: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the slower one has found is not written over what the other has found later."""
    directory = tree / "lib/modules" / RELEASE
    options = ["-b", str(tree), "--no-cache", RELEASE]
    start = "import sys; from lkm.cli.kmod.main import run; sys.exit(run('depmod', sys.argv[1:]))"
    others: list[subprocess.Popen[bytes]] = []
    read = collect.Collection.read

    def read_slowly(self: collect.Collection) -> None:
        read(self)
        make_tree(tree, {"kernel/late.ko": module_bytes("late")})
        others.append(subprocess.Popen([sys.executable, "-c", start, *options]))
        time.sleep(0.5)

    monkeypatch.setattr(collect.Collection, "read", read_slowly)
    assert run("depmod", options) == 0
    assert others[0].wait(timeout=60) == 0
    assert "kernel/late.ko:" in (directory / "modules.dep").read_text()


def test_roots_cache_is_where_no_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_cache() == "/var/cache/lkm/depmod"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_cache() == "/home/somebody/lkm/depmod"


def test_a_cache_directory_that_cannot_be_made_is_no_harm(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert lkm(tree, "--cache", str(tmp_path / "file/below")) == 0
    assert_as_made_anew(tree)


def test_a_cache_directory_that_is_in_nothing_is_not_made(tree: Path, tmp_path: Path) -> None:
    """A root without /var/cache keeps none: nothing appears in it but depmod's files."""
    below = tmp_path / "no-such" / "lkm" / "depmod"
    assert lkm(tree, "--cache", str(below)) == 0
    assert not (tmp_path / "no-such").exists()


@pytest.mark.parametrize("seed", range(12))
def test_any_changes_give_the_files_of_a_run_that_knows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whether few or many changes fit into the cache before all of it is written."""
    monkeypatch.setattr(collect, "MAX_IN_HEAD", (2, 64)[seed % 2])
    chance = random.Random(seed)
    top = tmp_path / "tree"
    order = chance.sample(NAMES[:5], 4)
    directory = make_tree(top, {name: some_module(chance, name) for name in NAMES[:6]}, order=order)
    for _ in range(12):
        assert lkm(top) == 0
        assert_as_made_anew(top)
        if chance.random() < 0.5:
            settle()
        for name in chance.sample(NAMES, chance.randrange(1, 3)):
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            if path.exists() and chance.random() < 0.4:
                path.unlink()
            else:
                path.write_bytes(some_module(chance, name))


def test_aliases_that_nest_deeper_than_the_stack(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each is the beginning of the next: a level of the index a letter."""
    info = [("alias", "n" * length) for length in range(1, 1500)]
    directory = make_tree(tree, {"kernel/c.ko": module_bytes("c", info=info)})
    settle()
    assert done(tree, capfd)[0] == 1
    make_tree(tree, {"kernel/c.ko": module_bytes("c", info=[*info, ("alias", "n" * 1500)])})
    settle()
    assert done(tree, capfd)[0] == 1
    assert f"alias {'n' * 1500} c\n" in (directory / "modules.alias").read_text()
    assert_as_made_anew(tree)


def test_an_index_that_is_not_sound_is_made_anew(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It was so when the run before left it: a disk that lies."""
    directory = make_tree(tree, {"kernel/c.ko": module_bytes("c", info=[("alias", "new")])})
    with (directory / "modules.alias.bin").open("r+b") as file:
        status = os.fstat(file.fileno())
        file.write(b"x" * 3 + b"\xff" * (status.st_size - 3))
    settle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "compare", lambda *_: True)
        assert done(tree, capfd)[0] == 1
    assert_as_made_anew(tree)
