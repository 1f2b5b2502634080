# SPDX-License-Identifier: MIT
"""kmod's own test suite, fetched as source from the archive and run against lkm's tools: `make test-kmod`.

Nothing of kmod is in this repository. `inapplicable.txt` has the tests that speak to libkmod's C functions.
"""
