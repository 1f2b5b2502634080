# SPDX-License-Identifier: MIT
"""depmod against kmod's own, on trees that are made here."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import struct
from pathlib import Path

import pytest
import zstandard

from lkm.cli.kmod.main import run
from tests.builders import make_elf
from tests.depmod import RELEASE, make_tree, module_bytes, read_files, run_kmod

FILES = {
    "kernel/a.ko": module_bytes("a", exports=["a_one", "a_two"], info=[("alias", "pci:v0-1d[0-9a-f]*")]),
    "kernel/b-c.ko": module_bytes("b_c", imports=["a_one", "d_one"], exports=["b_one"]),
    "kernel/sub/d.ko": module_bytes(
        "d",
        imports=["a_two", "nobody"],
        exports=["d_one"],
        info=[("softdep", "pre: a post: e"), ("softdep", "pre: b_c"), ("weakdep", "x y")],
    ),
    "kernel/sub/e.ko": module_bytes(
        "e",
        imports=["b_one", "_printk"],
        weak=["d_one"],
        info=[
            ("alias", "devname:e/node"),
            ("alias", "char-major-10-235"),
            ("alias", "fs-e"),
            ("alias", "fs-e"),
        ],
    ),
    "extra/f.ko": module_bytes(
        "f", imports=["d_one"], info=[("alias", "block-major-8-*"), ("alias", "fs-e")]
    ),
    "updates/g.ko": module_bytes("g"),
}
ORDER = ["kernel/sub/e.ko", "kernel/a.ko", "kernel/absent.ko", "kernel/sub/d.ko", "kernel/b-c.ko"]


def lkm(top: Path, *options: str) -> int:
    return run("depmod", ["-b", str(top), *options, RELEASE])


def assert_same_as_kmod(top: Path, capfd: pytest.CaptureFixture[str], *options: str) -> None:
    """The files and the messages."""
    code, messages, expected = run_kmod(top, *options)
    assert lkm(top, *options) == code
    out, err = capfd.readouterr()
    lines = [
        line
        for line in (out + err).splitlines()
        if not line.startswith(("weakdep ", "# Weak ", "depmod: NOTICE: "))
    ]
    assert sorted(lines) == sorted(messages.splitlines())  # kmod 30 knows no weakdeps
    directory = top / "lib/modules" / RELEASE
    if expected:
        assert read_files(directory) == expected
    assert [name for name in os.listdir(directory) if name.startswith(".")] == []


@pytest.mark.parametrize("order", [ORDER, [], None], ids=["some", "empty", "none"])
def test_files_are_as_kmod_writes_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], order: list[str] | None
) -> None:
    make_tree(tmp_path, FILES, order=order)
    assert_same_as_kmod(tmp_path, capfd)


def test_the_first_line_of_modules_order_on_a_module_counts(tmp_path: Path) -> None:
    """As in kmod 34; in kmod 30 it was the last."""
    directory = make_tree(tmp_path, FILES, order=["kernel/sub/e.ko", "kernel/a.ko", "kernel/sub/e.ko"])
    assert lkm(tmp_path) == 0
    assert (directory / "modules.dep").read_text().splitlines()[1] == "kernel/a.ko:"


def test_the_order_without_modules_order_is_that_of_kmods_hash_table(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [f"{'m' * (number % 7)}{number:x}{'z' * (number % 5)}" for number in range(200)]
    make_tree(tmp_path, {f"kernel/{name}.ko": module_bytes("m") for name in names}, order=None)
    assert_same_as_kmod(tmp_path, capfd)


def test_modules_order_that_does_not_end_in_a_newline_is_not_taken(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (make_tree(tmp_path, FILES) / "modules.order").write_text(
        "kernel/sub/e.ko\nkernel/a.ko", encoding="utf-8"
    )
    assert_same_as_kmod(tmp_path, capfd)


def test_built_in_modules(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = make_tree(tmp_path, FILES)
    (directory / "modules.builtin").write_text("kernel/x-y.ko\nkernel/z.ko\n 1\n", encoding="utf-8")
    items = ["x_y.alias=a-b*", "z.alias=a-b*", "z.license=GPL", "z.alias=c[x-y]d", "z.parm=a.b=c"]
    (directory / "modules.builtin.modinfo").write_bytes(b"".join(item.encode() + b"\0" for item in items))
    code, _, expected = run_kmod(tmp_path)
    assert lkm(tmp_path) == code == 0
    assert read_files(directory) == expected
    assert "Invalid modules.builtin line:  1" in capfd.readouterr().err


@pytest.mark.parametrize("options", [["-w"], ["-n"], ["-v"], ["-P_"], ["-e"], ["-n", "-w"]], ids=" ".join)
def test_options(tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str]) -> None:
    names = {
        "kernel/p.ko": module_bytes("p", exports=["_u"]),
        "kernel/q.ko": module_bytes("q", imports=[".u"]),
    }
    make_tree(tmp_path, {**FILES, **names}, order=[*ORDER, *names])
    assert_same_as_kmod(tmp_path, capfd, *options)


def test_json_and_no_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_tree(tmp_path, FILES, order=ORDER)
    assert lkm(tmp_path, "-n") == 0
    text = capfd.readouterr().out
    assert lkm(tmp_path, "-n", "--json") == 0
    done = json.loads(capfd.readouterr().out)
    assert text.startswith("kernel/")
    assert (done["schema"], done["written"], done["text"]) == ("lkm.depmod/1", [], text)


def test_named_files_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = make_tree(tmp_path, FILES, order=ORDER)
    names = [str(directory / name) for name in ("kernel/sub/d.ko", "kernel/a.ko")]
    options = ["-b", str(tmp_path), RELEASE, *names]
    assert run("depmod", options) == 0
    assert (directory / "modules.dep").read_text() == "kernel/a.ko:\nkernel/sub/d.ko: kernel/a.ko\n"
    assert run("depmod", [*options, "relative.ko"]) == 1
    assert run("depmod", [*options, str(directory / "absent.ko")]) == 1
    assert run("depmod", [*options, names[0]]) == 1
    errors = capfd.readouterr().err.splitlines()
    assert errors[0] == "depmod: FATAL: relative.ko: not absolute path."
    assert errors[1].endswith("absent.ko: No such file or directory")
    assert errors[2].startswith(f"depmod: FATAL: could not add module {names[0]}")


@pytest.mark.parametrize("compression", ["xz", "zst"])
def test_compressed_modules(tmp_path: Path, capfd: pytest.CaptureFixture[str], compression: str) -> None:
    pack = lzma.compress if compression == "xz" else zstandard.compress
    make_tree(
        tmp_path, {f"{path}.{compression}": pack(content) for path, content in FILES.items()}, order=ORDER
    )
    assert_same_as_kmod(tmp_path, capfd)


def test_gzip_too(tmp_path: Path) -> None:
    """Debian's kmod cannot: the file must be as the one without compression."""
    plain = make_tree(tmp_path / "plain", FILES, order=ORDER)
    packed = make_tree(
        tmp_path / "gz",
        {f"{path}.gz": gzip.compress(content) for path, content in FILES.items()},
        order=ORDER,
    )
    assert lkm(tmp_path / "plain") == lkm(tmp_path / "gz") == 0
    dep = (packed / "modules.dep").read_text()
    assert dep.replace(".ko.gz", ".ko") == (plain / "modules.dep").read_text()


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_modules_of_every_word_size_and_byte_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], bits: int, byteorder: str
) -> None:
    make_tree(tmp_path, {"kernel/elf.ko": make_elf(bits, byteorder), **FILES}, order=ORDER)
    assert_same_as_kmod(tmp_path, capfd)


GOOD = FILES["kernel/sub/d.ko"]
PACKED = lzma.compress(GOOD)
BROKEN = {
    "empty": b"",
    "text": b"text\n",
    "words": b"no module, but long enough for one",
    "magic": GOOD[:10],
    "header": GOOD[:64],
    "truncated": GOOD[:-1],
    "half": GOOD[: len(GOOD) // 2],
    "class": GOOD[:4] + b"\3" + GOOD[5:],
    "order": GOOD[:5] + b"\3" + GOOD[6:],
    "sections-beyond": GOOD[:40] + struct.pack("<Q", 1 << 62) + GOOD[48:],
    "section-size": GOOD[:58] + struct.pack("<H", 63) + GOOD[60:],
    "xz-cut": PACKED[:-20],
    "xz-changed": PACKED[:80] + bytes(20) + PACKED[100:],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_module_is_told_of_and_has_a_line_without_needs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    suffix = ".xz" if kind.startswith("xz") else ""
    make_tree(tmp_path, {f"kernel/broken.ko{suffix}": BROKEN[kind], **FILES}, order=ORDER)
    assert_same_as_kmod(tmp_path, capfd)


def test_why_a_module_is_broken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = {f"kernel/{kind}.ko": content for kind, content in BROKEN.items()}
    make_tree(tmp_path, files, order=files)
    assert lkm(tmp_path) == 0
    reasons = [line for line in capfd.readouterr().err.splitlines() if "NOTICE" in line]
    assert len(reasons) == len(BROKEN)
    assert reasons[0] == "depmod: NOTICE: empty.ko: it is empty"
    assert "depmod: NOTICE: half.ko: its section headers are not where it says: is it truncated?" in reasons
    assert "depmod: NOTICE: xz-cut.ko: xz stream ends early; is the file truncated?" in reasons
    assert "depmod: NOTICE: words.ko: it is neither an ELF file nor compressed" in reasons


@pytest.mark.parametrize("names", [0, 999])
def test_a_module_whose_section_names_are_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], names: int
) -> None:
    """kmod dies of an assertion."""
    broken = GOOD[:62] + struct.pack("<H", names) + GOOD[64:]
    directory = make_tree(tmp_path, {"kernel/broken.ko": broken, **FILES}, order=ORDER)
    assert lkm(tmp_path) == 0
    assert "kernel/broken.ko: Invalid argument\n" in capfd.readouterr().err
    assert "kernel/broken.ko:\n" in (directory / "modules.dep").read_text()


def test_a_loop_is_told_of_and_nothing_is_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loop = {
        "kernel/x.ko": module_bytes("x", imports=["y_one"], exports=["x_one"]),
        "kernel/y.ko": module_bytes("y", imports=["z_one"], exports=["y_one"]),
        "kernel/z.ko": module_bytes("z", imports=["x_one", "a_one"], exports=["z_one"]),
    }
    directory = make_tree(tmp_path, {**FILES, **loop})
    code, messages, _ = run_kmod(tmp_path)
    assert lkm(tmp_path) == code == 1
    assert capfd.readouterr().err == messages
    assert not list(directory.glob("modules.dep*"))


def test_loops_that_meet_are_all_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """kmod does not end here: it follows the one loop while it looks for the other."""
    pairs = {"p": "q", "q": "pr", "r": "s", "s": "r"}
    files = {
        f"kernel/{name}.ko": module_bytes(
            name, imports=[f"{other}_one" for other in others], exports=[f"{name}_one"]
        )
        for name, others in pairs.items()
    }
    make_tree(tmp_path, files, order=files)
    assert lkm(tmp_path) == 1
    assert capfd.readouterr().err.splitlines()[:3] == [
        "depmod: ERROR: Cycle detected: p -> q -> p",
        "depmod: ERROR: Cycle detected: r -> s -> r",
        "depmod: ERROR: Found 4 modules in dependency cycles!",
    ]


def test_loops_are_told_in_the_order_of_kmod(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The next loop is looked for from behind the last module of the one that was found."""
    uses = {"p": "q", "a": "b", "b": "c", "q": "p", "c": "a"}
    files = {
        f"kernel/{name}.ko": module_bytes(name, imports=[f"{other}_one"], exports=[f"{name}_one"])
        for name, other in uses.items()
    }
    make_tree(tmp_path, files, order=files)
    assert lkm(tmp_path) == 1
    ours = capfd.readouterr().err.splitlines()[:3]
    assert ours[1] == "depmod: ERROR: Cycle detected: c -> a -> b -> c"
    theirs = [line for line in run_kmod(tmp_path)[1].splitlines() if "ERROR" in line]
    assert ours == theirs
