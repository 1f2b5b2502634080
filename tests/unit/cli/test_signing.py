# SPDX-License-Identifier: MIT
"""`--sign-key` and `--sign-cert`: what their user gets wrong, and where the passphrase comes from."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import pytest

from lkm.cli.main import run
from lkm.cli.signing import add_signing_options, read_signer
from lkm.errors import UsageError
from lkm.rescue.signing import Signer
from lkm.root import Root
from tests.keys import KeyPair, make_key_pair


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("keys"), "locked", passphrase=b"sesame")


def signer_of(root: Root, *argv: str) -> Signer | None:
    parser = argparse.ArgumentParser()
    add_signing_options(parser)
    return read_signer(parser.parse_args(argv), root)


def test_without_the_options_nobody_signs(tmp_path: Path) -> None:
    assert signer_of(Root(str(tmp_path), "6.1.0")) is None


@pytest.mark.parametrize("option", ["--sign-key", "--sign-cert"])
def test_one_without_the_other_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rescue", "x", option, "/nowhere"]) == 2
    assert "--sign-key and --sign-cert" in capsys.readouterr().err


def test_the_hash_is_the_kernels_own(
    locked: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKM_SIGN_PASSPHRASE", "sesame")
    root = Root(str(tmp_path), "6.1.0")
    argv = ("--sign-key", locked.key, "--sign-cert", locked.certificate)
    unknown = signer_of(root, *argv)
    assert unknown
    assert (unknown.hash, unknown.identity.keyrings) == ("sha256", None)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/config-6.1.0").write_text('CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH="sha512"\n')
    told = signer_of(root, *argv)
    assert told
    assert told.hash == "sha512"


def test_nobody_to_ask_for_the_passphrase(
    locked: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LKM_SIGN_PASSPHRASE", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("sesame\n"))
    with pytest.raises(UsageError, match="LKM_SIGN_PASSPHRASE"):
        signer_of(Root(str(tmp_path), "6.1.0"), "--sign-key", locked.key, "--sign-cert", locked.certificate)
