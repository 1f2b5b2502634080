# SPDX-License-Identifier: MIT
"""`lkm initcalls` prints the table and the timeline; filters, files and errors are those of the manual."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lkm.cli.main import run
from tests.boots import LOG
from tests.kernel_images import make_elf, make_kernel

RELEASE = "7.3.4-test"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A recorded machine whose kernel has the hundred initcalls of `make_kernel`."""
    (tmp_path / "boot").mkdir()
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text(RELEASE + "\n", encoding="utf-8")
    (tmp_path / "boot" / f"vmlinuz-{RELEASE}").write_bytes(make_elf(make_kernel()))
    (tmp_path / "log").write_text(LOG, encoding="utf-8")
    return tmp_path


def lkm(capsys: pytest.CaptureFixture[str], root: Path, *argv: str) -> tuple[int, str]:
    code = run(["initcalls", "--root", str(root), *argv])
    return code, capsys.readouterr().out


def lkm_json(capsys: pytest.CaptureFixture[str], root: Path, *argv: str) -> dict[str, Any]:
    _, out = lkm(capsys, root, *argv, "--json")
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = lkm(capsys, root)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["Level", "Order", "Function", "Module", "Address"]
    assert lines[11].split() == ["early", "1", "setup_0", "part0", "0xffffffff81001000"]
    assert lines[-1] == f"100 initcalls of {RELEASE}, by {root}/boot/vmlinuz-{RELEASE}"


@pytest.mark.parametrize(
    ("option", "value", "count"),
    [
        ("--module", "part42", 1), ("--level", "fs", 10), ("--level", "5s", 0), ("--function", "setup_9", 11),
    ],
)  # fmt: skip
def test_filters(option: str, value: str, count: int, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = lkm(capsys, root, option, value)
    assert (code, out.splitlines()[-1].split()[:3]) == (0 if count else 1, [str(count), "of", "100"])


def test_json_begins_with_its_schema(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = lkm_json(capsys, root, "--module", "part42")
    assert next(iter(found)) == "schema"
    assert (found["schema"], found["release"]) == ("lkm.initcalls/1", RELEASE)
    assert found["initcalls"] == [
        {
            "level": "arch", "order": 43, "function": "setup_42", "sync": False, "module": "part42",
            "module_from": "symbol", "address": "0xffffffff810012a0", "entry": "0xffffffff810080a8", "line": 49,
        }
    ]  # fmt: skip


def test_a_timeline(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = lkm(capsys, root, "--timeline", str(root / "log"), "--top", "1")
    lines = out.splitlines()
    assert code == 1  # no initcall of the log is in this table
    assert lines[1].split() == ["1.500000", "400.000", "module", "virtio_blk_init", "virtio_blk", "0"]
    assert "8 initcalls took 587.439 ms; between them 392.591 ms; /init started at 1000.000 ms" in lines
    assert "failed: esrt_sysfs_init returned -38" in lines
    assert "deferred: the probe of 00:03 returned 517" in lines
    assert "warning: late_device returned with preemption imbalance disabled interrupts" in lines
    assert "blacklisted: left_out" in lines


def test_a_timeline_as_json_and_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    svg, html = root / "a.svg", root / "a.html"
    options = ["--timeline", str(root / "log"), "--svg", str(svg), "--html", str(html)]
    found = lkm_json(capsys, root, *options)
    assert (found["schema"], found["totals"]["initcalls"]) == ("lkm.timeline/1", 587439)
    assert [run["outcome"] for run in found["runs"]].count("ok") == 7
    assert found["unmatched"][:2] == ["con_init", "init_real_mode"]
    assert ElementTree.fromstring(svg.read_text(encoding="utf-8")).tag.endswith("svg")
    assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_log_of_an_unknown_kernel_has_no_levels(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "log").write_text(LOG.replace(RELEASE, "9.9"), encoding="utf-8")
    assert run(["initcalls", "--root", str(root), "--timeline", str(root / "log")]) == 0
    assert "calls have no levels: no initcalls of 9.9" in capsys.readouterr().err


def test_a_comparison(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = root / "before"
    before.write_text(LOG.replace("332000 usecs", "32000 usecs"), encoding="utf-8")
    _, out = lkm(capsys, root, "--timeline", str(root / "log"), "--compare", str(before))
    lines = out.splitlines()
    assert lines[1].split() == ["+300.000", "32.000", "332.000", "-", "acpi_init", "-"]
    assert lines[-2:] == [
        "all initcalls: 287.439 ms before, 587.439 ms after; 0 new, 0 gone",
        "all probes: 248.010 ms before, 248.010 ms after; 0 new, 0 gone",
    ]


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--svg", "x"], 2, "--svg goes with --timeline"),
        (["--level", "9"], 2, "is no level"),
        (["--level", "early_sync"], 2, "has no synchronous initcalls"),
        (["--top", "3"], 2, "--top goes with --timeline"),
        (["--timeline", "--module", "x"], 2, "--module does not go with --timeline"),
        (["--timeline", "--level", "fs"], 2, "--level does not go with --timeline"),
        (["--timeline", "--function", "x"], 2, "--function does not go with --timeline"),
        (["--lab", "6.1", "--timeline"], 2, "--timeline does not go with --lab"),
        (["--lab", "6.1", "--kernel", "x"], 2, "--kernel does not go with --lab"),
        (["--lab", "6.1", "--image", "x"], 2, "--image does not go with --lab"),
        (["--lab", "6.1", "--root", "/x"], 2, "--root does not go with --lab"),
        (["--image", "/nonexistent"], 2, "cannot be read"),
        (["--timeline", "/nonexistent"], 2, "cannot be read"),
        (["--timeline", "/dev/null"], 1, "no initcall in these messages; boot with initcall_debug"),
        (["--kernel", "1.2.3"], 2, "no kernel 1.2.3 below /"),
    ],
)
def test_what_goes_wrong(argv: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["initcalls", *argv]) == code
    assert says in capsys.readouterr().err


def test_a_log_that_is_not_utf_8(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = LOG.encode().replace(b"probe of 00:02", b"probe of \xff\xfe").replace(b"esrt_sysfs", b"es\xe9t")
    (root / "log").write_bytes(data)
    svg = root / "a.svg"
    _, from_file = lkm(capsys, root, "--timeline", str(root / "log"), "--svg", str(svg))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    _, from_stream = lkm(capsys, root, "--timeline", "-")
    assert "es\\xe9t_init" in from_file
    assert from_file == from_stream
    ElementTree.fromstring(svg.read_text(encoding="utf-8"))


def test_a_log_without_a_release_is_of_no_known_kernel(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "log").write_text(LOG.partition("\n")[2], encoding="utf-8")
    argv = ["initcalls", "--root", str(root), "--timeline", str(root / "log")]
    assert run(argv) == 0
    assert "the messages do not say of which kernel they are" in capsys.readouterr().err
    assert run([*argv, "--kernel", RELEASE]) == 1
    assert "not in the table" in capsys.readouterr().out


def test_the_earlier_boot_has_its_own_kernel(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = root / "before"
    before.write_text(LOG.replace(RELEASE, "9.9"), encoding="utf-8")
    argv = ["initcalls", "--root", str(root), "--timeline", str(root / "log"), "--kernel", RELEASE]
    run([*argv, "--compare", str(before)])
    assert f"{before}: calls have no levels: no initcalls of 9.9" in capsys.readouterr().err
    assert run([*argv, "--compare", "/dev/null"]) == 1
    assert "no initcall in /dev/null" in capsys.readouterr().err


def test_of_several_boots_the_last(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = LOG.replace(RELEASE, "1.2.3-older").replace("acpi_init", "gone_init")
    (root / "log").write_text(earlier + LOG, encoding="utf-8")
    found = lkm_json(capsys, root, "--timeline", str(root / "log"))
    assert (found["release"], found["totals"]["calls"]) == (RELEASE, 8)
    assert found["note"] == "of 2 boots in these messages, the last"
    assert "gone_init" not in {row["function"] for row in found["runs"]}


def test_a_log_with_the_time_of_the_day_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "[Sun Nov 22 09:59:30 2026] calling  f+0x0/0x10 @ 1"
    (root / "log").write_text(line + "\n", encoding="utf-8")
    assert run(["initcalls", "--root", str(root), "--timeline", str(root / "log")]) == 1
    said = capsys.readouterr().err
    assert f"have not the kernel's own time: {line}" in said
    assert "journalctl -k -o short-monotonic" in said


def test_what_is_lost_is_told_and_no_failure(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = """\
[    0.000000] Linux version 9.9 (x)
[    0.100000] calling  first_init+0x0/0x1 @ 1
** 42 printk messages dropped **
[    0.300000] initcall second_init+0x0/0x1 returned 0 after 50000 usecs
[    0.310000] calling  third_init+0x0/0x1 @ 1
[    0.320000] probe of d returned 0 after 50 usecs
[    0.330000] initcall third_init+0x0/0x1 returned 0 after 20000 usecs
"""
    (root / "log").write_text(lost, encoding="utf-8")
    code, out = lkm(capsys, root, "--timeline", str(root / "log"))
    lines = out.splitlines()
    assert code == 0
    assert "42 messages were dropped: the console was too slow (loglevel=4, or dmesg > FILE)" in lines
    assert "its return is not in the messages: first_init" in lines
    assert "its call is not in the messages: second_init" in lines
    assert (
        "1 probe is laid on a call by time alone: this kernel does not name threads (CONFIG_PRINTK_CALLER)"
        in lines
    )
    found = lkm_json(capsys, root, "--timeline", str(root / "log"))
    assert (found["dropped"], [row["called"] for row in found["runs"]]) == (42, [True, False, True])
    assert (found["probes"][0]["run"], found["probes"][0]["by"], found["probes"][0]["candidates"]) == (
        2,
        "time",
        1,
    )
