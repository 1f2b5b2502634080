# SPDX-License-Identifier: MIT
"""Bytes → values. Pure: nothing here opens a file or makes a system call."""
