# SPDX-License-Identifier: MIT
"""`--kernel`: which of the kernels that are installed a command speaks of, the same for each command that has it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lkm.cli.chosen_kernel import choose_kernel, choose_release, is_of
from lkm.cli.main import run
from lkm.errors import UsageError
from lkm.root import Root
from tests.kernel_images import make_elf, make_kernel

CLOUD, AMD, OLD, RC = "6.12.117+deb13-cloud-amd64", "6.12.117+deb13-amd64", "6.1.0-56-amd64", "7.3-rc1"
BUILTIN = "kernel/fs/ext4/ext4.ko\n"


@pytest.fixture
def base(tmp_path: Path) -> str:
    """Four kernels with modules, one of which only the image is left, and what a package left behind."""
    for release in (CLOUD, AMD, OLD, RC):
        (tmp_path / "lib/modules" / release / "kernel").mkdir(parents=True)
        (tmp_path / "lib/modules" / release / "modules.builtin").write_text(BUILTIN, encoding="utf-8")
        (tmp_path / "lib/modules" / release / "modules.dep").write_text("", encoding="utf-8")
    (tmp_path / "lib/modules/6.1.0-50-amd64").mkdir()
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-5.10.0-46-amd64").write_bytes(b"")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("kernel", "release"),
    [
        (OLD, OLD),
        ("6.1", OLD),
        ("6.1.0-5", None),
        ("6.1.0-56", OLD),
        ("6.1.0-56-", OLD),
        ("6.1.0-50-amd64", "6.1.0-50-amd64"),
        ("6.12.117+deb13-cloud", CLOUD),
        ("6.12.117+deb13-c", None),
        ("7.3", RC),
        ("7", RC),
        ("5.10", "5.10.0-46-amd64"),
    ],
)
def test_a_release_or_how_one_alone_begins(base: str, kernel: str, release: str | None) -> None:
    if release is None:
        with pytest.raises(UsageError, match="no kernel"):
            choose_release(kernel, base)
    else:
        assert choose_release(kernel, base) == release
        assert choose_kernel(kernel, base) == (Root(base, release), False)


@pytest.mark.parametrize("kernel", ["6.12", "6.12.117", "6.12.117+", "6.12.117+deb13-"])
def test_of_several_all_are_named(base: str, kernel: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose_release(kernel, base)
    assert raised.value.message == f"several kernels below {base} begin with {kernel}"
    assert raised.value.remedy == f"--kernel names one of: {AMD}, {CLOUD}"


@pytest.mark.parametrize("kernel", ["6.12-", "9.9", "../6.1", "6.12.117-"])
def test_what_no_kernel_is_called_names_those_that_are_there(base: str, kernel: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose_release(kernel, base)
    assert raised.value.message == f"no kernel {kernel} below {base}"
    assert all(each in raised.value.remedy for each in (CLOUD, AMD, OLD, RC))


def test_without_a_name_the_running_or_the_only_one(base: str, tmp_path: Path) -> None:
    assert choose_release("", base, running="6.18.1") == "6.18.1"
    assert choose_release("6.18", base, running="6.18.1") == "6.18.1"
    with pytest.raises(UsageError, match="several kernels below"):
        choose_release("", base)
    alone = tmp_path / "alone"
    (alone / "lib/modules" / OLD / "kernel").mkdir(parents=True)
    assert choose_release("", str(alone)) == OLD
    with pytest.raises(UsageError, match=r"no kernel's modules below .*; none is installed there"):
        choose_release("", str(tmp_path / "empty"))


def test_a_number_does_not_begin_a_longer_one() -> None:
    assert is_of("6.1.0-1-amd64", "6.1")
    assert is_of("6.1-rc2", "6.1")
    assert is_of("6.1", "6.1")
    assert not is_of("6.12.1", "6.1")
    assert not is_of("6.1", "6.12")


def commands(base: str) -> dict[str, list[str]]:
    return {
        "where": ["where", "--root", base, "ext4"],
        "list": ["list", "--builtin", "--root", base],
        "life": ["life", "--root", base, "ext4"],
        "initcalls": ["initcalls", "--root", base],
        "check": ["check", "--tree", base, "ext4"],
        "modpost": ["modpost", "--tree", base, os.devnull, "-o", "x.ko"],
    }


@pytest.mark.parametrize("name", ["where", "list", "life", "check"])
def test_each_command_takes_how_it_begins(base: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*commands(base)[name], "--kernel", "6.1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["release"] == OLD


@pytest.mark.parametrize("name", ["where", "list", "life", "initcalls", "check", "modpost"])
def test_each_command_says_which_there_are(base: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*commands(base)[name], "--kernel", "6.12"]) == 2
    assert f"--kernel names one of: {AMD}, {CLOUD}" in capsys.readouterr().err


def test_info_takes_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "--kernel", "0.01", "x"]) == 2
    assert "no kernel 0.01 below /" in capsys.readouterr().err


def test_without_modules_builtin_nothing_is_said_of_it(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image"
    image.write_bytes(make_elf(make_kernel() + f"Linux version {OLD} (somebody@somewhere)".encode()))
    for says in ("it could not have been a module", "there is no modules.builtin"):
        assert run(["life", "--root", base, "--image", str(image), "part7"]) == 0
        assert says in capsys.readouterr().out
        Path(base, "lib/modules", OLD, "modules.builtin").unlink(missing_ok=True)


@pytest.mark.parametrize("argv", [["where", "part7"], ["life", "part7"], ["list", "--builtin"]])
def test_an_image_says_what_is_built_in_and_of_which_kernel(
    argv: list[str], base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "image"
    image.write_bytes(make_elf(make_kernel() + f"Linux version {OLD} (somebody@somewhere)".encode()))
    assert run([*argv, "--root", base, "--image", str(image), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["release"] == OLD
    assert '"function": ' in json.dumps(answer)
    assert run([*argv, "--root", base, "--image", str(image), "--kernel", "6.12"]) == 2
    assert f"image is of {OLD}, not of 6.12; leave --kernel away" in capsys.readouterr().err
    assert run([*argv, "--root", base, "--image", base]) == 2
    assert f"{base} cannot be read: Is a directory" in capsys.readouterr().err
