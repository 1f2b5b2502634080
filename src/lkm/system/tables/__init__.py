# SPDX-License-Identifier: MIT
"""The kernel's tables in which modules register things, one a file.

Each has a function `read_…(root, memory, owners)` that yields `Registration`s and raises `LkmError` where the
table cannot be read. `lkm.system.registrations` calls them all.
"""
