# SPDX-License-Identifier: MIT
"""A made-up machine in a directory, in which kmod's tools and lkm's run side by side.

`modules.py` writes module files of every layout, `fake.c` is preloaded and stands in for the kernel, `fake.py`
runs a tool in it.
"""
