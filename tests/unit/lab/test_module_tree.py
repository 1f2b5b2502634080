# SPDX-License-Identifier: MIT
"""Compressed modules as the kernel's build makes them; unpacking is tested with the trees themselves."""

from __future__ import annotations

import pytest

from lkm.formats.compression import Compression, compression_of, decompress
from lkm.lab.module_tree import SUFFIXES, compress


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_compressed_reads_back(suffix: str) -> None:
    data = bytes(range(256)) * 100
    packed = compress(data, suffix)
    assert compression_of(packed) is Compression(suffix)
    assert decompress(packed) == data
