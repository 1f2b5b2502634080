# SPDX-License-Identifier: MIT
"""lkm's classic tools against kmod's on the module trees of real kernels: `make compare`."""
